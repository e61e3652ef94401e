"""The command line: ``overlock serve``, ``overlock evaluate`` and ``overlock download``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from importlib.metadata import version
from typing import NoReturn

from model.evaluation.arguments import fill_parser
from model.pretrained import arguments as download_arguments
from model.pretrained.assets import PRETRAINED
from service.logs import configure_logging
from service.process_environment import engine_environment
from service.settings import PREFIX, Settings, SettingsError, load_settings
from service.supervisor import Supervisor


def main() -> None:
    """Run the command that the arguments name."""
    arguments = _parser().parse_args()
    try:
        sys.exit(arguments.command(arguments))
    except SettingsError as error:
        _fail(str(error))
    except OSError as error:
        _fail(str(error))


def _serve(arguments: argparse.Namespace) -> int:
    given = {name: getattr(arguments, name) for name in Settings.model_fields}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_format, "service")

    async def run() -> int:
        return await Supervisor(settings).run()

    return asyncio.run(run())


def _evaluate(arguments: argparse.Namespace) -> int:
    os.environ.update(engine_environment())
    cache_dir = []
    if getattr(arguments, "weights", None) == PRETRAINED and arguments.cache_dir is None:
        cache_dir = ["--cache-dir", str(load_settings().cache_folder)]
    return _become("model.evaluate", *sys.argv[2:], *cache_dir)


def _download(arguments: argparse.Namespace) -> int:
    cache_folder = arguments.cache_dir or load_settings().cache_folder
    return _become(
        "model.pretrained.command", *sys.argv[2:], "--cache-dir", str(cache_folder.absolute())
    )


def _become(module: str, *words: str) -> NoReturn:
    """Become another process, since this one is kept free of torch."""
    # -P: the user's folder may well hold a "model" that is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *words])  # noqa: S606 - no shell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="overlock", description="OverLoCK, overview first, look closely next, over HTTP."
    )
    parser.add_argument("--version", action="version", version=version("overlock-service"))
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the service",
        description=f"Run the service. Every option is also a variable, {PREFIX}PORT for --port; "
        "an option wins.",
    )
    serve.set_defaults(command=_serve)
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" [{field.default}]"
        serve.add_argument(
            "--" + name.replace("_", "-"),
            metavar=name.rpartition("_")[2].upper(),
            help=f"{field.description}{default}",
        )
    evaluate = commands.add_parser("evaluate", help="measure a network on a data set")
    evaluate.set_defaults(command=_evaluate)
    fill_parser(evaluate)
    download = commands.add_parser("download", help="fetch the authors' weights")
    download.set_defaults(command=_download)
    download_arguments.fill_parser(download)
    return parser


def _fail(message: str) -> None:
    for line in message.splitlines():
        print(f"overlock: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
