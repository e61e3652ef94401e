"""The engine process: puts link and engine together and says how it ended."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from pathlib import Path

from service import metrics
from service.engine.engine import ConfigurationError, Engine
from service.lifeline import CONFIGURATION_EXIT_CODE, keep_output_for_announcements, stop_event
from service.link.server import LinkServer
from service.logs import configure_logging
from service.settings import Settings, load_settings

logger = logging.getLogger(__name__)


async def serve(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run an engine until it is told to stop; return the exit code."""
    stop = stop_event()
    server = LinkServer(arguments.socket)
    engine = asyncio.create_task(Engine(settings, arguments.device, server).run())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({engine, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not engine.done():
        return 0
    stopped.cancel()
    exit_code = 0
    try:
        await engine
    except* ConfigurationError as group:
        for error in group.exceptions:
            logger.error("%s", error)
        exit_code = CONFIGURATION_EXIT_CODE
    return exit_code


def main() -> None:
    """Start an engine as the supervisor asks."""
    parser = argparse.ArgumentParser(description="An engine of overlock-service.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--restarted", action="store_true")
    arguments = parser.parse_args()
    keep_output_for_announcements()
    settings = load_settings()
    configure_logging(settings.log_format, arguments.name)
    if arguments.restarted:
        metrics.ENGINE_RESTARTS.inc()
    exit_code = asyncio.run(serve(arguments, settings))
    logging.shutdown()
    # The device thread may be inside a kernel; nobody waits for what it computes.
    os._exit(exit_code)


if __name__ == "__main__":
    main()
