"""The parent process: starts HTTP workers and engines, restarts what dies, drains on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from service.lifeline import CONFIGURATION_EXIT_CODE
from service.settings import MAX_TIMEOUT_SECONDS, Settings

INTERRUPT_GRACE_SECONDS = 1.0
"""How long Ctrl-C waits for what is under way; SIGTERM waits for all of it."""

ENGINE_GRACE_SECONDS = 1.0
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.1, 5.0
STABLE_SECONDS = 30.0
"""A child that lived this long is restarted without delay."""

LISTEN_BACKLOG = 2048

CHILD_ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}
"""For torch's threads: one that waits for another soon yields its core. Spinning on, as is the
default, makes a forward pass many times slower as soon as anything else wants a core."""

logger = logging.getLogger(__name__)


@dataclass
class Child:
    """A process that is kept running.

    Attributes:
        name: as its log lines say it.
        arguments: of the Python interpreter.
        facts: what its present process announced; None before that.
        process: the present one; None between two.
    """

    name: str
    arguments: tuple[str, ...]
    facts: dict[str, Any] | None = None
    process: Process | None = None


class Supervisor:
    """Runs the service.

    Args:
        settings: for all processes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started_at = time.monotonic()
        self._stopping = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._said_ready = False
        self._exit_code = 0
        self._runtime = Path(tempfile.mkdtemp(prefix="overlock-"))  # mode 0700
        (self._runtime / "metrics").mkdir()
        self._engines: list[Child] = []
        self._workers: list[Child] = []

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            with _listener(self._settings) as listener:
                self._plan(listener)
                await self._serve(listener)
        finally:
            shutil.rmtree(self._runtime, ignore_errors=True)
        return self._exit_code

    def _plan(self, listener: socket.socket) -> None:
        """Decide which processes there are."""
        devices = self._settings.devices.split(",")
        sockets = [self._runtime / f"engine-{index}.sock" for index in range(len(devices))]
        for index, (device, path) in enumerate(zip(devices, sockets, strict=True)):
            name = f"engine-{index}"
            address = ("--socket", str(path), "--device", device)
            self._engines.append(_child(name, "service.engine.process", *address))
        links = tuple(word for path in sockets for word in ("--engine", str(path)))
        for index in range(self._settings.http_workers):
            name = f"http-{index}"
            fd = str(listener.fileno())
            self._workers.append(_child(name, "service.web.process", "--listen-fd", fd, *links))

    async def _serve(self, listener: socket.socket) -> None:
        keeping = [
            asyncio.create_task(self._keep_running(child, listener))
            for child in (*self._engines, *self._workers)
        ]
        await self._stopping.wait()
        # Workers first: what they accepted still needs the engines.
        await self._end(self._workers, self._worker_grace_seconds())
        await self._end(self._engines, ENGINE_GRACE_SECONDS)
        await asyncio.gather(*keeping)

    def _worker_grace_seconds(self) -> float:
        return INTERRUPT_GRACE_SECONDS if self._interrupted.is_set() else MAX_TIMEOUT_SECONDS

    async def _keep_running(self, child: Child, listener: socket.socket) -> None:
        backoff_seconds = FIRST_BACKOFF_SECONDS
        restarted = False
        while not self._stopping.is_set():
            born = time.monotonic()
            exit_code = await self._run_once(child, listener, restarted=restarted)
            if self._stopping.is_set():
                return
            if exit_code == CONFIGURATION_EXIT_CODE:
                self._exit_code = 1
                self._stopping.set()
                return
            if time.monotonic() - born > STABLE_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            logger.error("%s ended (%s); starting another.", child.name, _cause(exit_code))
            await self._sleep(backoff_seconds)
            backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)
            restarted = True

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _run_once(self, child: Child, listener: socket.socket, *, restarted: bool) -> int:
        arguments = child.arguments
        if restarted and child in self._engines:
            arguments = (*arguments, "--restarted")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=PIPE,  # closes when this process dies, which ends the child
            stdout=PIPE,
            pass_fds=(listener.fileno(),),
            process_group=0,  # a terminal's Ctrl-C is for this process alone
            env={
                **CHILD_ENVIRONMENT,
                **os.environ,
                **self._settings.as_environment(),
                "PROMETHEUS_MULTIPROC_DIR": str(self._runtime / "metrics"),
            },
        )
        child.process = process
        assert process.stdout is not None
        async for line in process.stdout:
            child.facts = json.loads(line)
            self._say_if_ready(listener)
        exit_code = await process.wait()
        child.process, child.facts = None, None
        mark_process_dead(process.pid, str(self._runtime / "metrics"))  # type: ignore[no-untyped-call]
        return exit_code

    def _say_if_ready(self, listener: socket.socket) -> None:
        if any(child.facts is None for child in (*self._engines, *self._workers)):
            return
        if self._said_ready:
            logger.info("All processes are up again.")
            return
        self._said_ready = True
        seconds = time.monotonic() - self._started_at
        url = _url(listener)
        lines = [f"overlock-service {version('overlock-service')} is ready after {seconds:.1f} s"]
        for engine in self._engines:
            lines += [_describe(model) for model in (engine.facts or {})["models"]]
        lines += [f"  {'page':<10}{url}/", f"  {'API':<10}{url}/docs"]
        for line in lines:
            logger.info("%s", line)

    async def _end(self, children: Iterable[Child], grace_seconds: float) -> None:
        """Ask processes to stop, and kill those that do not within the grace time."""
        processes = [child.process for child in children if child.process is not None]
        for process in processes:
            _signal(process, signal.SIGTERM)
        ended = asyncio.create_task(_all_ended(processes))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait(
            [ended, hurry], timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        hurry.cancel()
        for process in processes:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
        await ended

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
            return
        logger.info("Stopping: what was accepted is answered first.")
        self._stopping.set()

    def _interrupt(self) -> None:
        self._interrupted.set()
        self._stop()


def _child(name: str, module: str, *options: str) -> Child:
    return Child(name, ("-m", module, "--name", name, *options))


async def _all_ended(processes: list[Process]) -> bool:
    await asyncio.gather(*(process.wait() for process in processes))
    return True


def _listener(settings: Settings) -> socket.socket:
    """Open the socket that all HTTP workers accept from.

    Raises:
        OSError: if the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server(
        (settings.host, settings.port), family=family, backlog=LISTEN_BACKLOG
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # An address that means "all of them" is none that a browser can open.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _describe(model: dict[str, Any]) -> str:
    weights = {"demo": "demo weights", "random": "RANDOM weights"}.get(
        model["weights"], model["weights"]
    )
    return (
        f"  {model['task']:<10}{model['name']} ({weights}, {model['classes']} classes) on "
        f"{model['device']}, {model['dtype']}, batches up to {model['max_batch_size']}"
    )


def _cause(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return
