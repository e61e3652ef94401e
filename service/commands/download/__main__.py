"""Fetches pretrained weights: ``overlock download``, or ``python -m service.commands.download``.

Where they are kept goes to the standard output, all else to the standard error stream.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from model.pretrained.assets import PretrainedError
from model.pretrained.records import default_folder, weights_folder, weights_path
from model.pretrained.store import ensure_cached, verify_kept
from service.commands.download.arguments import fill_parser

PROGRAM = "overlock download"
REFUSED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit codes."""

logger = logging.getLogger(__name__)


def main() -> None:
    """Fetch what the arguments name, and exit."""
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # It shows every address, also one that a redirect signed for this download alone.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = weights_folder(arguments.cache_dir) if arguments.cache_dir else default_folder()
    try:
        sys.exit(_download(arguments.names, folder, arguments.source))
    except KeyboardInterrupt:
        logger.info("Stopped. The same command goes on from here.")
        sys.exit(INTERRUPTED)


def _download(names: list[str], folder: Path, source: Path | None) -> int:
    if source is not None and len(names) > 1:
        return _refuse("--from FILE is for one NAME.", MISUSED)
    code = 0
    for name in names:
        try:
            verify_kept(ensure_cached(name, folder, source=source), folder)
        except PretrainedError as error:
            code = _refuse(str(error), REFUSED)
        else:
            sys.stdout.write(f"{weights_path(name, folder)}\n")
    return code


def _refuse(message: str, code: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    main()
