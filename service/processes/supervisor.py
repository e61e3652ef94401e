"""The parent process: starts HTTP workers and engines, replaces them, drains on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import closing
from enum import Enum
from typing import Any

from prometheus_client import Counter

from service import metrics, tracing
from service.api.queries import MAX_TIMEOUT_SECONDS
from service.processes.child import Child, StartFailedError
from service.processes.compile_cache import compiler_environment
from service.processes.environment import engine_environment, gpu_environment, local_device
from service.processes.restarts import RestartCounts
from service.processes.runtime_folder import RuntimeFolder, runtime_parent
from service.release import release
from service.settings import Settings

INTERRUPT_GRACE_SECONDS = 1.0
"""Grace time of accepted requests after Ctrl-C; SIGTERM waits for all of them."""

ENGINE_GRACE_SECONDS = 1.0
LISTEN_BACKLOG = 2048

logger = logging.getLogger(__name__)


class Ending(Enum):
    """Reasons for which the service ends."""

    STOPPED = "a signal asked it to stop"
    REFUSED = "a process could not start, and the service was never ready"
    FAILED = "a process could not be supervised"


class Supervisor:
    """Runs the service.

    Args:
        settings: of all processes.

    Raises:
        SettingsError: if OpenTelemetry's variables name an exporter that is not installed, or
            there is no space for the runtime folder.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._traces_to = tracing.destination(os.environ)
        self._started_at = time.monotonic()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._worker_grace_seconds = settings.drain_delay_seconds + MAX_TIMEOUT_SECONDS
        self._said_ready = False
        self._url = ""
        processes = 1 + len(settings.devices.split(",")) + settings.http_workers
        needed_bytes = processes * metrics.PROCESS_BYTES
        self._runtime = RuntimeFolder.create(runtime_parent(), needed_bytes)
        self._metrics = self._runtime.path / "metrics"
        self._metrics.mkdir()
        self._restarts: RestartCounts  # while it runs
        self._engines: list[Child] = []
        self._workers: list[Child] = []

    async def run(self) -> Ending:
        """Serve until SIGTERM or SIGINT, or until a process can no longer be kept running."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGHUP, _say_nothing_to_reload)
        try:
            counting = closing(RestartCounts(self._metrics))
            with counting as self._restarts, _listener(self._settings) as listener:
                self._url = _url(listener)
                self._plan(listener)
                return await self._serve(listener)
        finally:
            self._runtime.remove()

    def _plan(self, listener: socket.socket) -> None:
        """Create the children: engines and HTTP workers."""
        devices = self._settings.devices.split(",")
        sockets = [self._runtime.path / f"engine-{index}.sock" for index in range(len(devices))]
        for index, (device, path) in enumerate(zip(devices, sockets, strict=True)):
            names = ("--device", device, "--local-device", local_device(device))
            pins = ("--pins", str(self._runtime.path / "weights.json"))
            command = ("service.engine.process", "--socket", str(path), *names, *pins)
            engine = self._child(f"engine-{index}", command, metrics.ENGINE_RESTARTS)
            engine.environment |= engine_environment() | gpu_environment(device)
            engine.environment |= compiler_environment(self._settings, device)
            self._engines.append(engine)
        links = tuple(word for path in sockets for word in ("--engine", str(path)))
        for index in range(self._settings.http_workers):
            fd = str(listener.fileno())
            words = ("service.web.process", "--listen-fd", fd, *links)
            worker = self._child(f"http-{index}", words, metrics.HTTP_WORKER_RESTARTS)
            worker.inherited_fds = (listener.fileno(),)
            self._workers.append(worker)

    def _child(self, name: str, command: tuple[str, ...], restarts: Counter) -> Child:
        return Child(
            name=name,
            command=("-m", *command, "--name", name),
            environment={
                **self._settings.as_environment(),
                "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
            },
            metrics_folder=self._metrics,
            on_announcement=self._note_if_ready,
            on_death=lambda: self._restarts.increment(restarts),
        )

    async def _serve(self, listener: socket.socket) -> Ending:
        """Keep all children running until the service stops."""
        keeping = [
            asyncio.create_task(child.keep_running()) for child in (*self._engines, *self._workers)
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({stopping, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not self._stopping.is_set():  # nobody waits for a service that fails
            self._worker_grace_seconds = INTERRUPT_GRACE_SECONDS
        # Workers first: the requests that they accepted still need the engines.
        workers_ended = asyncio.create_task(self._end(self._workers, self._worker_grace_seconds))
        await asyncio.sleep(0)
        listener.close()
        await workers_ended
        await self._end(self._engines, ENGINE_GRACE_SECONDS)
        failures = [
            outcome
            for outcome in await asyncio.gather(*keeping, return_exceptions=True)
            if isinstance(outcome, BaseException)
        ]
        unforeseen = [f for f in failures if not isinstance(f, StartFailedError)]
        for failure in unforeseen:
            logger.error("A process could not be supervised.", exc_info=failure)
        if unforeseen:
            return Ending.FAILED
        return Ending.REFUSED if failures else Ending.STOPPED

    async def _end(self, children: Iterable[Child], grace_seconds: float) -> None:
        await asyncio.gather(
            *(child.stop(grace_seconds=grace_seconds, hurry=self._hurry) for child in children)
        )

    def _note_if_ready(self) -> None:
        if any(child.facts is None for child in (*self._engines, *self._workers)):
            return
        if self._said_ready:
            logger.info("All processes are up again.")
            return
        self._said_ready = True
        for child in (*self._engines, *self._workers):
            child.established = True
        seconds = time.monotonic() - self._started_at
        lines = [f"overlock-service {release()} is ready after {seconds:.1f} s"]
        for engine in self._engines:
            lines += [_describe(model) for model in (engine.facts or {})["models"]]
        lines += [f"  {'page':<10}{self._url}/", f"  {'API':<10}{self._url}/docs"]
        if self._traces_to is not None:
            lines.append(f"  {'traces':<10}{self._traces_to}")
        for line in lines:
            logger.info("%s", line)

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
            return
        logger.info("Stopping: accepted requests get %g s.", self._worker_grace_seconds)
        self._stopping.set()

    def _interrupt(self) -> None:
        if not self._stopping.is_set():
            self._worker_grace_seconds = INTERRUPT_GRACE_SECONDS
        self._stop()


def _say_nothing_to_reload() -> None:
    logger.info("SIGHUP: there is nothing to reload; the service goes on.")


def _listener(settings: Settings) -> socket.socket:
    """Open the socket that all HTTP workers accept from.

    Raises:
        OSError: if the address cannot be bound; the message names the settings.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = settings.host, settings.port
    both = settings.host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            address, family=family, backlog=LISTEN_BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python adds the address
        raise OSError(
            f"OVERLOCK_HOST and OVERLOCK_PORT (--host, --port): cannot listen on {settings.host}, "
            f"port {settings.port}: {reason}."
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # A browser cannot open the address that means all interfaces.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _describe(model: dict[str, Any]) -> str:
    weights = {"demo": "demo weights", "random": "RANDOM weights"}.get(
        model["weights"], model["weights"]
    )
    return (
        f"  {model['task']:<10}{model['name']} ({weights}, {model['classes']} classes) on "
        f"{model['device']}, {model['dtype']}{', compiled' if model['compiled'] else ''}, "
        f"batches up to {model['max_batch_size']}"
    )
