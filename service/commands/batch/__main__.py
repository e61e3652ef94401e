"""Predict on many images: the process that ``overlock batch`` starts."""

from __future__ import annotations

import argparse
import os
import sys

from service.commands.batch.arguments import PROGRAM, fill_parser
from service.commands.console.exits import FAILED, run_to_exit
from service.commands.console.signals import ending_at_once


def main() -> None:
    """Predict as the arguments say, and exit."""
    try:
        run_to_exit(_batch, PROGRAM)
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        # The interpreter would wait for Ray Data's threads, which do not end if it is interrupted.
        # Ray itself has ended; nothing else is left to do.
        os._exit(end.code if isinstance(end.code, int) else FAILED)


def _batch() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    with ending_at_once():  # loading Ray takes seconds
        from service.commands.batch.run import run

    return run(arguments)


if __name__ == "__main__":
    main()
