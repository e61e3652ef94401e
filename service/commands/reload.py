"""``overlock reload``."""

from __future__ import annotations

import argparse
import sys

from service.commands.console.exits import DONE, FAILED, RefusedError, print_error
from service.processes.control import find_services
from service.processes.reloads import ReloadError, StoppingError
from service.processes.runtime_folder import runtime_parent

DESCRIPTION = """\
Have a service of this user read its models again: the models file, the weights, the labels. Other
engines start beside those that serve, and take over when they are ready; no request is lost. Return
then. If they cannot start, those before go on serving, and the reason is shown (exit code 1).
kill -HUP PID does the same without waiting. Other settings need a restart."""


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--pid", type=int, help="process id of the service, where there are several [the only one]"
    )


def run(arguments: argparse.Namespace) -> int:
    """Reload a service, and wait until other engines serve."""
    services = [each for each in find_services() if arguments.pid in {None, each.pid}]
    if not services:
        which = "" if arguments.pid is None else f" with process id {arguments.pid}"
        raise RefusedError(
            f"there is no service of this user{which} in {runtime_parent()}; was it started with "
            "another TMPDIR, or in a container?"
        )
    if len(services) > 1:
        found = ", ".join(f"{each.pid} ({each.url})" for each in services)
        raise RefusedError(f"there are several services; give one as --pid: {found}")
    try:
        generation = services[0].reload()
    except ReloadError as error:
        print_error(f"the reload failed, and what served before goes on: {error}")
        return FAILED
    except StoppingError:
        print_error("the service has ended, before other engines served")
        return FAILED
    sys.stdout.write(f"generation {generation} serves at {services[0].url}\n")
    return DONE
