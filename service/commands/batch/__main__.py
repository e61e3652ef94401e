"""Predict on many images: the process that ``overlock batch`` starts."""

from __future__ import annotations

import argparse

from service.commands.batch.arguments import PROGRAM, fill_parser
from service.commands.console.exits import run_to_exit


def main() -> None:
    """Predict as the arguments say, and exit."""
    run_to_exit(_batch, PROGRAM)


def _batch() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    # Imported here: loading Ray takes seconds, and Ctrl-C meanwhile must print no traceback.
    from service.commands.batch.run import run

    return run(arguments)


if __name__ == "__main__":
    main()
