"""The parent process: starts HTTP workers and engines, replaces them, drains on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from contextlib import closing
from enum import Enum
from typing import Any

from prometheus_client import Counter

from service import metrics, tracing
from service.processes.changes import Changes
from service.processes.child import Child, StartFailedError
from service.processes.control import control_socket
from service.processes.control_requests import take_request
from service.processes.counts import SupervisorCounts
from service.processes.environment import http_worker_environment
from service.processes.generation import Generation
from service.processes.grpc_port import reserved_grpc_port
from service.processes.reloads import Reloads
from service.processes.runtime_folder import RuntimeFolder, runtime_parent
from service.processes.selection import Change
from service.release import release
from service.settings import Settings

INTERRUPT_GRACE_SECONDS = 1.0
"""Grace time of accepted requests after Ctrl-C; SIGTERM waits for all of them."""

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
        self._ending = asyncio.Event()
        self._stopping = False
        self._hurry = asyncio.Event()
        self._worker_grace_seconds = settings.drain_delay_seconds + settings.max_timeout_seconds
        self._said_ready = self._someone_died = False
        self._url = ""
        self._grpc_address: str | None = None
        # Two generations of engines while a reload lasts.
        processes = 1 + 2 * len(settings.devices.split(",")) + settings.http_workers
        needed_bytes = processes * metrics.PROCESS_BYTES
        self._runtime = RuntimeFolder.create(runtime_parent(), needed_bytes)
        self._metrics = self._runtime.path / "metrics"
        self._metrics.mkdir()
        self._changes = Changes()
        self._workers: list[Child] = []
        self._counts: SupervisorCounts  # this one and the next while it runs
        self._reloads: Reloads

    async def run(self) -> Ending:
        """Serve until SIGTERM or SIGINT, or until a process can no longer be kept running.

        Raises:
            SettingsError: if the models file is wrong, or a file that it names.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            counting = closing(SupervisorCounts(self._metrics))
            grpc = reserved_grpc_port(self._settings)
            with counting as self._counts, _listener(self._settings) as listener, grpc as address:
                self._url, self._grpc_address = _url(listener), address
                workers = range(self._settings.http_workers)
                self._workers = [self._new_worker(index, listener) for index in workers]
                self._reloads = Reloads(
                    self._begin_generation, self._workers, self._changes, self._counts
                )
                loop.add_signal_handler(signal.SIGHUP, self._reloads.ask)
                async with control_socket(self._runtime.path, self._url, self._reloads.ask):
                    return await self._serve(listener)
        finally:
            self._runtime.remove()

    def _begin_generation(
        self, number: int, before: Generation | None, change: Change
    ) -> Generation:
        return Generation(
            self._settings,
            number,
            self._runtime.path,
            before,
            change,
            on_change=self._note_change,
            on_death=lambda: self._note_death(metrics.ENGINE_RESTARTS),
        )

    def _new_worker(self, index: int, listener: socket.socket) -> Child:
        name, fd, grpc = f"http-{index}", listener.fileno(), self._grpc_address
        options = () if grpc is None else ("--grpc-address", grpc)
        worker = Child(
            name=name,
            command=("-m", "service.web.process", "--name", name, "--listen-fd", str(fd), *options),
            environment={
                # gRPC's own library logs callers' faults, in lines of its own form.
                "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE"),
                **http_worker_environment(),
                **self._settings.as_environment(),
                "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
            },
            metrics_folder=self._metrics,
            on_announcement=lambda: self._welcome(worker),
            on_death=lambda: self._note_death(metrics.HTTP_WORKER_RESTARTS),
            on_request=lambda facts: take_request(worker, facts, self._reloads.ask),
            inherited_fds=(fd,),
        )
        return worker

    async def _serve(self, listener: socket.socket) -> Ending:
        """Keep all children running until the service stops."""
        engines = self._reloads.generation.start()
        workers = [asyncio.create_task(worker.keep_running()) for worker in self._workers]
        keeping = (*engines, *workers)
        for task in keeping:
            task.add_done_callback(self._note_end)
        reloading = asyncio.create_task(self._reloads.run())
        reloading.add_done_callback(self._note_end)
        await self._ending.wait()
        reloading.cancel()
        if not self._stopping:  # nobody waits for a service that fails
            self._worker_grace_seconds = INTERRUPT_GRACE_SECONDS
        # Workers first: the requests that they accepted still need the engines.
        workers_ended = asyncio.create_task(self._end_workers())
        await asyncio.sleep(0)
        listener.close()
        await workers_ended
        await asyncio.wait({reloading})
        await asyncio.gather(*(each.end(self._hurry) for each in self._reloads.live))
        await asyncio.gather(*keeping, return_exceptions=True)
        failures = [error for task in (*keeping, reloading) if (error := _error_of(task))]
        unforeseen = [f for f in failures if not isinstance(f, StartFailedError)]
        for failure in unforeseen:
            logger.error("A process could not be supervised.", exc_info=failure)
        if unforeseen:
            return Ending.FAILED
        return Ending.REFUSED if failures else Ending.STOPPED

    async def _end_workers(self) -> None:
        grace_seconds, hurry = self._worker_grace_seconds, self._hurry
        await asyncio.gather(
            *(worker.stop(grace_seconds=grace_seconds, hurry=hurry) for worker in self._workers)
        )

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """End the service if a task that keeps it running has failed."""
        if _error_of(task) is not None:
            self._ending.set()

    def _note_death(self, restarts: Counter) -> None:
        self._someone_died = True
        self._counts.increment(restarts)

    def _welcome(self, worker: Child) -> None:
        """Tell an HTTP worker that has announced something the state of the service."""
        self._reloads.tell(worker)
        self._note_change()

    def _note_change(self) -> None:
        self._changes.note()
        generation = self._reloads.generation
        if not generation.ready or any(worker.facts is None for worker in self._workers):
            return
        if self._said_ready:
            if self._someone_died:
                self._someone_died = False
                logger.info("All processes are up again.")
            return
        self._said_ready = True
        generation.establish()
        for worker in self._workers:
            worker.establish()
        seconds = time.monotonic() - self._started_at
        lines = [f"overlock-service {release()} is ready after {seconds:.1f} s"]
        lines += [_describe(model) for model in generation.models]
        lines += [f"  {'page':<10}{self._url}/", f"  {'API':<10}{self._url}/docs"]
        if self._grpc_address is not None:
            lines.append(f"  {'gRPC':<10}{self._grpc_address}")
        if self._traces_to is not None:
            lines.append(f"  {'traces':<10}{self._traces_to}")
        for line in lines:
            logger.info("%s", line)

    def _stop(self) -> None:
        if self._stopping:
            self._hurry.set()
            return
        logger.info("Stopping: accepted requests get %g s.", self._worker_grace_seconds)
        self._stopping = True
        self._ending.set()

    def _interrupt(self) -> None:
        if not self._stopping:
            self._worker_grace_seconds = INTERRUPT_GRACE_SECONDS
        self._stop()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    """Return the error that a task ended with, if it has."""
    return None if not task.done() or task.cancelled() else task.exception()


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
