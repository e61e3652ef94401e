"""Export a network: the process that ``overlock export`` starts."""

from __future__ import annotations

import argparse

from service.commands.console.exits import run_to_exit
from service.commands.console.signals import ending_at_once
from service.commands.export.arguments import PROGRAM, fill_parser
from service.commands.export.plan import plan_of


def main() -> None:
    """Export as the arguments say, and exit."""
    run_to_exit(_export, PROGRAM)


def _export() -> int:
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    plan = plan_of(arguments)
    with ending_at_once():  # loading torch takes seconds
        from service.commands.export.run import run

    return run(plan)


if __name__ == "__main__":
    main()
