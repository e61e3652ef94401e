"""``overlock serve``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from service.commands.console.exits import DONE, FAILED, REFUSED
from service.logs import configure_logging
from service.processes.gpus import with_stated_devices
from service.processes.start_checks import check_files, check_packages
from service.processes.supervisor import Ending, Supervisor
from service.settings import PREFIX, Settings, load_settings, specs_of

EXIT_CODE_OF = {Ending.STOPPED: DONE, Ending.REFUSED: REFUSED, Ending.FAILED: FAILED}

logger = logging.getLogger(__name__)


def fill_parser(parser: argparse.ArgumentParser) -> None:
    """Add an option for every setting."""
    parser.description = (
        f"Run the service. Every option is also a variable, {PREFIX}PORT for --port; "
        "an option wins."
    )
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" [{field.default}]"
        parser.add_argument(
            "--" + name.replace("_", "-"),
            metavar=name.rpartition("_")[2].upper(),
            help=f"{field.description}{default}",
        )


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the supervisor handles it
    given = {name: getattr(arguments, name) for name in Settings.model_fields}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_format, "service")
    settings = with_stated_devices(settings)
    specs = specs_of(settings)
    models = [f"{spec.task} {spec.name}" for spec in specs]
    logger.info("starting: %s; devices: %s", ", ".join(models), settings.devices)
    check_packages(settings)
    check_files(settings, specs)

    async def serve() -> Ending:
        return await Supervisor(settings).run()

    return EXIT_CODE_OF[asyncio.run(serve())]
