"""The engine process: puts link and engine together and exits with a code for the supervisor."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

import uvloop

from service import metrics, tracing
from service.engine.batches import DeviceFailedError
from service.engine.device import EngineDevice
from service.engine.engine import Engine
from service.engine.loading import ConfigurationError
from service.link.sockets import LinkServer
from service.logs import configure_logging
from service.processes.heartbeat import (
    CONFIGURATION_EXIT_CODE,
    DEVICE_EXIT_CODE,
    Supervision,
    announce_failure,
    begin,
    child_parser,
    send_heartbeats,
)
from service.processes.runtime_folder import RuntimeFolder
from service.settings import Settings, load_settings, specs_of

logger = logging.getLogger(__name__)


async def serve(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run an engine until its supervisor stops it or dies; return the exit code.

    SIGTERM alone does not end it: a service manager may send that to all processes at once, and the
    requests that HTTP workers have accepted still need the engine.
    """
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    supervision = Supervision()
    server = LinkServer(arguments.socket)
    record = arguments.socket.with_suffix(".flight")
    device = EngineDevice(arguments.device, arguments.local_device or arguments.device)
    stated = specs_of(settings, arguments.models)
    specs = [spec for spec in stated if spec.name not in arguments.without]
    engine = asyncio.create_task(
        Engine(
            settings,
            specs,
            device,
            server,
            record,
            arguments.measured,
            arguments.predecessor,
            arguments.pins,
        ).run()
    )
    heartbeats = asyncio.create_task(
        send_heartbeats(metrics.EVENT_LOOP_LAG_SECONDS.labels("engine").observe)
    )
    stopped = asyncio.create_task(supervision.ended.wait())
    await asyncio.wait({engine, stopped}, return_when=asyncio.FIRST_COMPLETED)
    heartbeats.cancel()
    if not engine.done():
        return 0
    stopped.cancel()
    exit_code = 0
    try:
        await engine
    except* ConfigurationError as group:
        for error in group.exceptions:
            logger.error("%s", error)
            announce_failure(str(error))
        exit_code = CONFIGURATION_EXIT_CODE
    except* DeviceFailedError as failures:
        for failure in failures.exceptions:
            logger.error("%s", failure)
            announce_failure(str(failure))
        exit_code = DEVICE_EXIT_CODE
    return exit_code


def main() -> None:
    """Run the engine process with the supervisor's arguments."""
    parser = child_parser("An engine of overlock-service.")
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--device", required=True, help="its name on the host")
    parser.add_argument("--pins", type=Path, help="of the weights' versions, for all engines")
    parser.add_argument("--local-device", help="its name in this process, if that is another")
    parser.add_argument("--models", type=Path, help="a copy of the models file")
    parser.add_argument("--without", action="append", default=[], help="a model not to serve")
    parser.add_argument("--measured", type=Path, help="file for what it measures")
    parser.add_argument("--predecessor", type=Path, help="such a file of the engine before it")
    arguments = parser.parse_args()
    begin(arguments)
    settings = load_settings()
    configure_logging(settings.log_format, arguments.name)
    runtime = RuntimeFolder(arguments.socket.parent)
    tracing.start(arguments.name, os.environ)
    exit_code = uvloop.run(serve(arguments, settings))
    tracing.stop()
    runtime.leave()
    logging.shutdown()
    # The device thread may be inside a kernel whose result nobody waits for.
    os._exit(exit_code)


if __name__ == "__main__":
    main()
