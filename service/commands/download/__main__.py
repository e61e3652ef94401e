"""Download pretrained weights: ``overlock download``, or ``python -m service.commands.download``.

Standard output gets the paths of the kept files, standard error all else.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from model.pretrained.assets import PretrainedError
from model.pretrained.records import default_folder, weights_folder, weights_path
from service.commands.console.exits import (
    DONE,
    FAILED,
    REFUSED,
    RefusedError,
    print_error,
    run_to_exit,
)
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
    # httpx logs every URL, also a redirect's, which may be signed for this download alone.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = weights_folder(arguments.cache_dir) if arguments.cache_dir else default_folder()
    try:
        return _download(arguments.names, folder, arguments.source)
    except KeyboardInterrupt:
        logger.info("Stopped. The same command resumes the download.")
        raise


def _download(names: list[str], folder: Path, source: Path | None) -> int:
    if source is not None and len(names) > 1:
        raise RefusedError("--from FILE is for one NAME.")
    # Imported here: loading torch takes seconds, and Ctrl-C meanwhile must print no traceback.
    from model.pretrained.store import ensure_cached, verify_cached

    failed = 0
    for name in names:
        try:
            verify_cached(ensure_cached(name, folder, source=source), folder)
        except (PretrainedError, OSError) as error:
            print_error(" ".join(str(error).split()), PROGRAM)
            failed += 1
        else:
            sys.stdout.write(f"{weights_path(name, folder)}\n")
    if not failed:
        return DONE
    return REFUSED if failed == len(names) else FAILED


if __name__ == "__main__":
    main()
