"""Measure a network on a data set: the process that ``overlock evaluate`` starts."""

from __future__ import annotations

import argparse

from service.commands.console.exits import run_to_exit
from service.commands.console.signals import ending_at_once
from service.commands.evaluate.arguments import PROGRAM, fill_parser


def main() -> None:
    """Evaluate as the arguments say, and exit."""
    run_to_exit(_evaluate, PROGRAM)


def _evaluate() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    with ending_at_once():  # loading torch takes seconds
        from service.commands.evaluate.run import run

    return run(arguments)


if __name__ == "__main__":
    main()
