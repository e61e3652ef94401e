"""A child process of the supervisor: started, watched, replaced when it dies, stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from prometheus_client.multiprocess import mark_process_dead

from service.metrics import METRICS_OWNER
from service.processes.heartbeat import (
    ANNOUNCEMENTS_OPTION,
    CONFIGURATION_EXIT_CODE,
    DEVICE_EXIT_CODE,
    FAILURE,
    HEARTBEAT,
    REQUEST,
    STOP,
)
from service.processes.memory import volunteer

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.1, 5.0
STABLE_SECONDS = 30.0
"""Lifetime of a child after which the restart backoff starts over."""

SILENCE_SECONDS = 5.0
"""A ready child that sends no heartbeat for twice as long is stuck. Twice, since the first silence
may have been the supervisor's own: it may have been suspended and not have read yet."""

LAST_WORDS_SECONDS = 1.0
"""Time to read what a process wrote before its end."""

START_ATTEMPTS = 3
"""Processes that may be killed, or lose their device, before the service is ready."""

STANDARD_ERROR = 2

logger = logging.getLogger(__name__)


class StartFailedError(Exception):
    """A child cannot start, and a restart would not help; the message says why, as the log does."""


@dataclass
class Child:
    """A process that is kept running until it is stopped.

    Attributes:
        name: shown in its log lines.
        command: the Python interpreter's arguments.
        options: more of them, which may change between two of its processes.
        environment: variables added to the supervisor's own.
        metrics_folder: the folder of its metrics.
        on_announcement: called whenever it has announced that it is ready.
        on_death: called whenever one has died and another is started.
        on_request: called with what it asks for.
        inherited_fds: file descriptors that it inherits.
        start_attempts: processes that may be killed, or lose their device, before it is
            established.
        metrics_owner: owner of its metrics' files, whose counters it goes on; by default its name.
        goes_first: whether it is to be killed before others where memory runs out, until it is
            established.
        established: whether it is part of a service that has been ready; from then on every death
            is followed by another start.
        facts: announced by its present process; None before that.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    metrics_folder: Path
    on_announcement: Callable[[], None]
    on_death: Callable[[], None]
    on_request: Callable[[dict[str, Any]], None] = lambda _: None
    options: tuple[str, ...] = ()
    inherited_fds: tuple[int, ...] = ()
    start_attempts: int = START_ATTEMPTS
    metrics_owner: str | None = None
    goes_first: bool = False
    established: bool = False
    facts: dict[str, Any] | None = None
    _failure: str | None = None
    _process: Process | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_running(self) -> None:
        """Start the process, and start it again whenever it ends, until ``stop``.

        Raises:
            StartFailedError: if it ends by itself before it is established, or is killed
                ``start_attempts`` times.
        """
        attempts, backoff_seconds = 0, FIRST_BACKOFF_SECONDS
        while not self._stopping.is_set():
            born = time.monotonic()
            exit_code, cause = await self._run_once()
            if self._stopping.is_set():
                return
            attempts += 1
            if not self.established:
                self._refuse_hopeless(exit_code, cause, attempts)
            if time.monotonic() - born > STABLE_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            logger.error("%s ended (%s); starting another.", self.name, cause)
            self.on_death()
            await self._sleep(backoff_seconds)
            backoff_seconds = min(2 * backoff_seconds, LONGEST_BACKOFF_SECONDS)

    def _refuse_hopeless(self, exit_code: int | None, cause: str, attempts: int) -> None:
        if exit_code == CONFIGURATION_EXIT_CODE:
            raise StartFailedError(self._failure or f"{self.name} cannot start.")
        by_chance = exit_code is None or exit_code < 0 or exit_code == DEVICE_EXIT_CODE
        if not by_chance or attempts == self.start_attempts:
            logger.error("%s cannot start (%s).", self.name, cause)
            raise StartFailedError(f"{self.name} cannot start ({cause}).")

    @property
    def pid(self) -> int | None:
        """Id of its present process; None where there is none."""
        return None if self._process is None else self._process.pid

    def establish(self) -> None:
        """Make it part of a service that has been ready."""
        self.established = True
        if self.goes_first and self._process is not None:
            volunteer(self._process.pid, goes_first=False)
        self.goes_first = False

    def send(self, line: bytes) -> None:
        """Send a message to its present process, if it is up."""
        if self._process is not None and self.facts is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(line)

    async def stop(self, *, grace_seconds: float, hurry: asyncio.Event) -> None:
        """Ask the process to end, and kill it after the grace time or in a hurry."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        _request_end(process)
        ended = asyncio.create_task(process.wait())
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait(
            {ended, hurried}, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not ended.done():
            _signal(process, signal.SIGKILL)
        await ended

    async def _run_once(self) -> tuple[int | None, str]:
        """Run the process to its end; return its exit code, None if it has none, and the cause."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as announcements:
            try:
                process = await self._start(writing)
            except OSError as error:
                return None, f"it could not be started: {error}"
            finally:
                os.close(writing)
            self._process = process
            if self.goes_first:
                volunteer(process.pid, goes_first=True)
            if self._stopping.is_set():  # stopped while it was being started
                _request_end(process)
            listening = asyncio.create_task(self._listen(process, announcements))
            exit_code = await process.wait()
            # Not to the end of the pipe: a process that it started may hold the other end.
            await asyncio.wait({listening}, timeout=LAST_WORDS_SECONDS)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        self._process, self.facts = None, None
        _close_metrics(self.metrics_folder, self.metrics_owner or self.name)
        return exit_code, _cause(exit_code)

    async def _start(self, announcements: int) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing in the current folder is taken for one of our modules
            *self.command,
            *self.options,
            ANNOUNCEMENTS_OPTION,
            str(announcements),
            stdin=PIPE,  # closes when the supervisor dies, which ends the child
            stdout=STANDARD_ERROR,
            pass_fds=(announcements, *self.inherited_fds),
            process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
            env={**os.environ, **self.environment, METRICS_OWNER: self.metrics_owner or self.name},
        )

    async def _listen(self, process: Process, announcements: BinaryIO) -> None:
        """Read announcements and heartbeats until the process ends; kill it if they stop."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), announcements
        )
        try:
            await self._take_lines(process, reader)
        finally:
            transport.close()

    async def _take_lines(self, process: Process, reader: asyncio.StreamReader) -> None:
        silences = 0
        while True:
            try:
                async with asyncio.timeout(None if self.facts is None else SILENCE_SECONDS):
                    line = await reader.readline()
            except TimeoutError:
                silences += 1
                if silences == 2:
                    logger.error("%s is stuck; killing it.", self.name)
                    _signal(process, signal.SIGKILL)
                continue
            silences = 0
            if not line:
                return
            if line != HEARTBEAT:
                facts = json.loads(line)
                if FAILURE in facts:
                    self._failure = facts[FAILURE]
                elif REQUEST in facts:
                    self.on_request(facts[REQUEST])
                else:
                    self.facts = facts
                    self.on_announcement()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _close_metrics(folder: Path, owner: str) -> None:
    """Keep the counters of a dead process, and free the space of its gauges."""
    mark_process_dead(owner, str(folder))  # type: ignore[no-untyped-call]
    for path in folder.glob(f"*_{owner}.db"):
        with path.open("r+b") as file:
            used_bytes = int.from_bytes(file.read(4), sys.byteorder)
            file.truncate(used_bytes)
        if not used_bytes:
            path.unlink()


def _cause(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def _request_end(process: Process) -> None:
    """Ask the process to end; see ``service.processes.heartbeat``."""
    assert process.stdin is not None
    process.stdin.write(STOP)


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return
