"""Download weights: ``overlock download``, or ``python -m service.commands.download``.

Standard output gets the paths of the kept files, standard error all else.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from model.checkpoints.file_kind import weights_file_problem
from model.pretrained.assets import PretrainedError
from model.pretrained.records import default_folder, sha256_of, weights_folder, weights_path
from model.remote.addresses import RemoteError, is_address
from model.remote.fetch import fetch
from service.commands.console.exits import (
    DONE,
    FAILED,
    REFUSED,
    RefusedError,
    print_error,
    run_to_exit,
)
from service.commands.console.signals import ending_at_once
from service.commands.download.arguments import fill_parser

PROGRAM = "overlock download"

logger = logging.getLogger(__name__)


def main() -> None:
    """Download what the arguments name, and exit."""
    run_to_exit(_run, PROGRAM)


def _run() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # They log every URL, also a redirect's, which may be signed for this download alone.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    folder = weights_folder(arguments.cache_dir) if arguments.cache_dir else default_folder()
    try:
        return _download(arguments.names, folder, arguments.source)
    except KeyboardInterrupt:
        logger.info("Stopped. The same command resumes the download.")
        raise


def _download(names: list[str], folder: Path, source: Path | None) -> int:
    if source is not None and len(names) > 1:
        raise RefusedError("--from FILE is for one NAME.")
    if source is not None and is_address(names[0]):
        raise RefusedError("--from FILE is for a NAME; an address says where its file is.")
    with ending_at_once():  # loading torch takes seconds
        from model.pretrained.store import ensure_cached, verify_cached

    failed = 0
    for name in names:
        try:
            if is_address(name):
                path = _fetched(name, folder)
            else:
                verify_cached(ensure_cached(name, folder, source=source), folder)
                path = weights_path(name, folder)
        except (PretrainedError, RemoteError, OSError) as error:
            print_error(" ".join(str(error).split()), PROGRAM)
            failed += 1
        else:
            sys.stdout.write(f"{path}\n")
    if not failed:
        return DONE
    return REFUSED if failed == len(names) else FAILED


def _fetched(address: str, folder: Path) -> Path:
    fetched = fetch(address, folder)
    problem = weights_file_problem(fetched.path)
    if problem is not None:
        raise RemoteError(f"{fetched.source} is fetched, but no use: {problem}")
    logger.info("%s has the SHA-256 %s.", fetched.source, sha256_of(fetched.path))
    return fetched.path


if __name__ == "__main__":
    main()
