"""Export a network: the process that ``overlock export`` starts."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from service.commands.console.exits import run_to_exit
from service.commands.export.arguments import PROGRAM, fill_parser
from service.commands.export.plan import plan_of


def main() -> None:
    """Export as the arguments say, and exit."""
    run_to_exit(_export, PROGRAM)


def _end(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _export() -> int:
    # As Ctrl-C does: the unfinished file is removed on the way out.
    signal.signal(signal.SIGTERM, _end)
    parser = argparse.ArgumentParser(prog=PROGRAM)
    fill_parser(parser)
    arguments = parser.parse_args()
    plan = plan_of(arguments)
    # Imported here: loading torch takes seconds, and Ctrl-C meanwhile must print no traceback.
    from service.commands.export.run import run

    return run(plan)


if __name__ == "__main__":
    main()
