"""The HTTP worker process: uvicorn on a socket that the supervisor opened."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import ceil
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI

from model.config import Task
from service import metrics, tracing
from service.api.errors import all_errors
from service.link.client import EngineClient
from service.link.pool import EnginePool, Generations
from service.logs import configure_logging
from service.processes.environment import freeze_heap
from service.processes.heartbeat import (
    CONFIGURATION_EXIT_CODE,
    Supervision,
    announce,
    begin,
    child_parser,
    request,
    send_heartbeats,
)
from service.processes.model_control import WorkerControl
from service.processes.runtime_folder import RuntimeFolder
from service.processes.state import ChangeOutcome, ServiceState, message_of, state_of
from service.settings import Settings, SettingsError, load_settings
from service.web.app import create_app
from service.web.http.connections import Connection
from service.web.http.middleware import PLACES, RequestsUnderWay
from service.web.http.open_connections import OpenConnections
from service.web.http.refusals import CUT_REASONS
from service.web.pipeline import Pipeline
from service.web.v2.routes import MODEL

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A uvicorn server without signal handlers: ``serve`` stops it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


async def serve(arguments: argparse.Namespace, settings: Settings) -> None:
    """Serve until told to stop, then answer the accepted requests."""
    worker_name = f"{arguments.name}-{os.getpid()}"

    def pool(generation: int, sockets: Iterable[str]) -> EnginePool:
        return EnginePool(generation, [EngineClient(Path(path), worker_name) for path in sockets])

    first: ServiceState = arguments.state
    generations = Generations(pool(first.generation, first.engines))
    generations.reload_error = first.reload_error
    control = WorkerControl(first.models, allowed=settings.model_control == "on", send=request)
    switching: set[asyncio.Task[None]] = set()

    def take(line: bytes) -> None:
        """Take the supervisor's word on the engines, or an answer."""
        state = message_of(line)
        if isinstance(state, ChangeOutcome):
            control.take_outcome(state)
            return
        generations.reload_error = state.reload_error
        control.take_models(state.models)
        generations.show(state.shown)
        if state.generation not in {generations.current.generation, *generations.held}:
            task = asyncio.create_task(generations.switch(pool(state.generation, state.engines)))
            switching.add(task)
            task.add_done_callback(switching.discard)

    def announce_generations() -> None:
        metrics.GENERATION.set(generations.current.generation)
        current, held = generations.current.generation, generations.held
        shown = generations.shown.generation
        announce({"worker": arguments.name, "generation": current, "held": held, "shown": shown})

    supervision = Supervision(take)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, supervision.ended.set)
    app = create_app(settings, generations, control)
    server = Server(
        uvicorn.Config(
            app,
            # uvicorn's type is a class, but it only calls it.
            http=partial(Connection, open_connections=OpenConnections.for_this_process()),  # type: ignore[arg-type]
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # uvicorn's type is int, but it only adds it to a time.
            timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]
            # As long as a caller may wait for an answer; the supervisor enforces its own limit.
            timeout_graceful_shutdown=ceil(settings.max_timeout_seconds),
        )
    )
    listener = socket.socket(fileno=arguments.listen_fd)
    server_task = asyncio.create_task(server.serve(sockets=[listener]))
    heartbeats = asyncio.create_task(
        send_heartbeats(metrics.EVENT_LOOP_LAG_SECONDS.labels("http").observe)
    )
    export_zeros()
    pipeline: Pipeline = app.state.pipeline
    async with grpc_server(app, settings, arguments.grpc_address):
        freeze_heap()
        generations.on_change = announce_generations
        announce_generations()
        abandoning = asyncio.create_task(
            abandon_when_orphaned(supervision, app.state.under_way, control)
        )
        stopped = asyncio.create_task(supervision.ended.wait())
        await asyncio.wait({server_task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        delay_seconds = 0.0 if supervision.orphaned.is_set() else settings.drain_delay_seconds
        await pipeline.draining.run(delay_seconds, settings.max_timeout_seconds)
    server.should_exit = True
    await server_task
    heartbeats.cancel()
    abandoning.cancel()


@asynccontextmanager
async def grpc_server(app: FastAPI, settings: Settings, address: str | None) -> AsyncIterator[None]:
    """Serve gRPC too while the block runs, if there is an address to listen on.

    gRPC is imported only then.

    Raises:
        SettingsError: if the address cannot be bound.
    """
    if address is None:
        yield
        return
    from service.web.grpc.server import SERVICE, GrpcServer

    server = GrpcServer(app, settings)
    await server.start(address)
    export_zero_requests(f"/{SERVICE}/ModelInfer")
    try:
        yield
    finally:
        await server.stop()


async def abandon_when_orphaned(
    supervision: Supervision, under_way: RequestsUnderWay, control: WorkerControl
) -> None:
    """Answer all requests at once when the supervisor is gone: the engines end with it."""
    await supervision.orphaned.wait()
    logger.error("The supervisor is gone: ending.")
    under_way.abandon()
    control.abandon()


def export_zeros() -> None:
    """Export the counters that alerts watch at zero."""
    export_zero_requests(*(f"/v1/{task}" for task in Task), f"{MODEL}/infer")
    metrics.start_at_zero(metrics.REJECTED, {error.slug for error in all_errors()})
    metrics.start_at_zero(metrics.CANCELLED, PLACES)
    metrics.start_at_zero(metrics.CONNECTIONS_CUT, CUT_REASONS)


def export_zero_requests(*routes: str) -> None:
    """Export the counters of requests at zero, of every status."""
    statuses = {200} | {error.status for error in all_errors()}
    metrics.start_at_zero(metrics.REQUESTS, routes, [*map(str, statuses)])


def main() -> None:
    """Run an HTTP worker with the supervisor's arguments."""
    parser = child_parser("An HTTP worker of overlock-service.")
    parser.add_argument("--listen-fd", required=True, type=int)
    parser.add_argument("--state", required=True, type=state_of, help="of the service, as JSON")
    parser.add_argument("--grpc-address", help="host and port; other workers share them")
    arguments = parser.parse_args()
    begin(arguments)
    settings = load_settings()
    configure_logging(settings.log_format, arguments.name)
    runtime = RuntimeFolder(Path(arguments.state.engines[0]).parent)
    try:
        tracing.start(arguments.name, os.environ)
        uvloop.run(serve(arguments, settings))
    except SettingsError as error:
        logger.error("%s", error)
        sys.exit(CONFIGURATION_EXIT_CODE)
    finally:
        tracing.stop()
        runtime.leave()


if __name__ == "__main__":
    main()
