"""The command line: ``overlock COMMAND``.

Help is fast: a command's module is imported only when that command is called, and a command that
needs torch runs in a process of its own.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # python -m puts the current folder first: its argparse.py would be imported next.
    os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])  # noqa: S606 - no shell

import argparse
from importlib import import_module
from typing import Protocol, cast

from service.commands.console.exits import DONE, EXIT_CODES, REFUSED, run_to_exit
from service.commands.console.launcher import refuse_shadows
from service.commands.console.signals import ending_at_once
from service.release import PACKAGE, commit, release

COMMANDS = {
    "serve": ("service.commands.serve", "run the service"),
    "reload": ("service.commands.reload", "have a running service read its models again"),
    "predict": (
        "service.commands.predict.command",
        "classify, segment, detect, embed or explain image files",
    ),
    "batch": (
        "service.commands.batch.command",
        "predict on a million images, into Parquet files",
    ),
    "models": (
        "service.commands.models",
        "list the networks: sizes, the paper's numbers, what is cached",
    ),
    "download": ("service.commands.download.command", "fetch weights beforehand"),
    "evaluate": ("service.commands.evaluate.command", "measure a network on a data set"),
    "export": (
        "service.commands.export.command",
        "write a network to a file for other runtimes: ONNX, torch.export",
    ),
    "bench": ("service.commands.bench.command", "load a running service and measure it"),
    "plan": (
        "service.commands.plan.command",
        "say how many replicas a load needs, and what they cost",
    ),
}
"""Module and purpose of each command."""

EPILOG = f"""\
overlock COMMAND --help says more.

examples:
  overlock serve
  overlock predict classify photo.jpg
  overlock predict segment photos --url http://127.0.0.1:8000 --save overlays

{EXIT_CODES}
"""


class Command(Protocol):
    """Interface of a command's module."""

    def fill_parser(self, parser: argparse.ArgumentParser) -> None:
        """Give the command's parser its description and options."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return the exit code."""


def main() -> None:
    """Run the command that the arguments name."""
    run_to_exit(_run)


def _run() -> int:
    refuse_shadows()
    # Another program's: its metrics would mix with ours, or the folder be missing.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    name = words[0] if words and words[0] in COMMANDS else None
    with ending_at_once():
        command = cast("Command", import_module(COMMANDS[name][0])) if name else None
    parser, command_parser = _parsers(name, command)
    if len(sys.argv) == 1:
        parser.print_help(sys.stderr)
        return REFUSED
    # argparse would report these with the usage of the outermost parser, not of the command's.
    arguments, unknown = parser.parse_known_args()
    if unknown:
        command_parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    assert command is not None, "argparse refuses unknown commands"
    return command.run(arguments)


def _parsers(
    chosen: str | None, command: Command | None
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return the outermost parser, and that of the chosen command, if any, or the former again."""
    parser = argparse.ArgumentParser(
        prog="overlock",
        usage="overlock COMMAND ...",
        description="OverLoCK, overview first, look closely next: serve it and use it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the release and its commit, and exit",
    )
    # argparse would repeat this parser's usage in front of the command's name.
    commands = parser.add_subparsers(
        prog="overlock", title="commands", required=True, metavar="COMMAND"
    )
    chosen_parser = parser
    for name, (_, purpose) in COMMANDS.items():
        subparser = commands.add_parser(name, help=purpose)
        if name == chosen and command is not None:
            command.fill_parser(subparser)
            chosen_parser = subparser
    return parser, chosen_parser


class _Version(argparse.Action):
    """Prints the version; argparse's own action would ask for the commit in every command."""

    def __call__(
        self, parser: argparse.ArgumentParser, *_: object, option_string: str | None = None
    ) -> None:
        found = commit()
        of_commit = "" if found is None else f" (commit {found})"
        sys.stdout.write(f"{PACKAGE} {release()}{of_commit}\n")
        parser.exit(DONE)


if __name__ == "__main__":
    main()
