"""Reloads: another generation of engines is started beside the one that serves, and takes over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from service import metrics
from service.api.errors import ServiceError
from service.processes.changes import Changes
from service.processes.child import Child, StartFailedError
from service.processes.counts import SupervisorCounts
from service.processes.generation import Generation
from service.processes.selection import RELOAD, Action, Change
from service.processes.state import ConfiguredModel, ServiceState, line_of
from service.settings import SettingsError

logger = logging.getLogger(__name__)


class ReloadError(Exception):
    """A reload has changed nothing; the message says why."""


class StoppingError(Exception):
    """The service stops before it has reloaded."""


@dataclass
class _Asked:
    """A change, and all who asked for it before it was begun."""

    change: Change
    answers: list[asyncio.Future[int]] = field(default_factory=list)


class Reloads:
    """Replaces the generation that serves, whenever it is asked to.

    A new generation is started. Once all of its engines are ready, each HTTP worker is told to send
    new requests to it; the requests that it began before finish with the old generation, which ends
    then. There are never more than two.

    Args:
        begin: makes the next generation of a number, given the one before and the change.
        workers: the HTTP workers.
        changes: noted whenever a child has announced something.
        counts: of reloads.

    Attributes:
        generation: serves.
        live: every generation whose processes run, the oldest first.
    """

    def __init__(
        self,
        begin: Callable[[int, Generation | None, Change], Generation],
        workers: Sequence[Child],
        changes: Changes,
        counts: SupervisorCounts,
    ) -> None:
        self._begin = begin
        self._workers = workers
        self._changes = changes
        self._counts = counts
        self._queue: deque[_Asked] = deque()
        self._asked = asyncio.Event()
        self._ended = False
        self._shown = 1
        self._error: str | None = None
        self._load_errors: dict[str, str] = {}
        self._hurry = asyncio.Event()
        self.generation = begin(1, None, RELOAD)
        self._selection = self.generation.selection
        self.live = [self.generation]
        self._aim_workers()

    def ask(self, change: Change = RELOAD) -> asyncio.Future[int]:
        """Ask for a reload, or for a model to be loaded or unloaded.

        Changes are made one after another. One that has not begun yet serves all who asked for it;
        one that has may have read the models before they were changed, so another follows it.

        Returns:
            The number of the generation that serves then, once every HTTP worker sends new requests
            to it; or ReloadError, StoppingError, or the ServiceError of ``Selection.after``.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # A signal's answer is awaited by nobody.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._ended:
            self._resolve([answer], StoppingError())
            return answer
        if not self._queue or self._queue[-1].change != change:
            self._queue.append(_Asked(change))
        self._queue[-1].answers.append(answer)
        self._asked.set()
        return answer

    async def run(self) -> None:
        """Make the changes that are asked for, until cancelled; begin once the service is ready."""
        try:
            await self._changes.until(lambda: self.generation.ready)
            while True:
                await self._asked.wait()
                asked = self._queue.popleft()
                if not self._queue:
                    self._asked.clear()
                await self._make(asked)
        finally:
            self._ended = True
            for asked in self._queue:
                self._resolve(asked.answers, StoppingError())

    async def _make(self, asked: _Asked) -> None:
        """Make a change, and answer all who asked for it."""
        before, change = self.generation, asked.change
        try:
            if change.action is not Action.UNLOAD or change.name not in self._selection.unloaded:
                await self._replace(change)
        except (ReloadError, ServiceError) as error:
            self._resolve(asked.answers, error)
            return
        except BaseException:
            self._resolve(asked.answers, StoppingError())
            raise
        self._resolve(asked.answers, self.generation.number)
        if self.generation is not before:
            await self._retire()

    def tell(self, worker: Child) -> None:
        """Tell an HTTP worker the state of the service."""
        worker.send(line_of(self._state()))

    def _state(self) -> ServiceState:
        return ServiceState(
            self.generation.number,
            self.generation.sockets,
            self._shown,
            self._error,
            tuple(map(self._configured, self._selection.configured)),
        )

    def _configured(self, name: str) -> ConfiguredModel:
        reason = self._load_errors.get(name, "")
        if name in self._selection.unloaded:
            return ConfiguredModel(name, "UNAVAILABLE", reason or "unloaded")
        return ConfiguredModel(name, "READY", reason)

    async def _replace(self, change: Change) -> None:
        """Start another generation and send new requests to it."""
        started, before = time.monotonic(), self.generation
        number = before.number + 1
        try:
            generation = await self._started(number, before, change)
        except (SettingsError, StartFailedError, OSError) as error:
            self._note_failure(change, str(error))
            raise ReloadError(str(error)) from error
        except ServiceError as error:  # what was asked for cannot be
            logger.warning("%s is refused: %s", change, error)
            raise
        except Exception as error:
            # Whatever it is, the engines that serve are none the worse for it.
            logger.exception("A reload met an unforeseen error.")
            reason = f"an unforeseen error, {error!r}, which the log has in full"
            self._note_failure(change, reason)
            raise ReloadError(reason) from error
        generation.establish()
        self.generation, self._error = generation, None
        self._tell_all()
        await self._until_all("generation", number)
        self._shown, self._selection = number, generation.selection
        self._load_errors = {
            name: reason
            for name, reason in self._load_errors.items()
            if name in generation.selection.unloaded and name != change.name
        }
        self._tell_all()
        await self._until_all("shown", number)
        self._counts.increment(metrics.RELOADS)
        logger.info("Generation %d serves after %.1f s.", number, time.monotonic() - started)

    async def _started(self, number: int, before: Generation, change: Change) -> Generation:
        generation = self._begin(number, before, change)
        logger.info("%s: generation %d starts beside generation %d.", change, number, before.number)
        self.live.append(generation)
        try:
            generation.start()
            await generation.until_ready(self._changes)
        except BaseException:
            await generation.end(self._hurry)
            self.live.remove(generation)
            raise
        return generation

    async def _retire(self) -> None:
        """End the generation before, once no request holds it."""
        before = self.live[0]
        await self._changes.until(
            lambda: all(before.number not in facts["held"] for facts in self._facts())
        )
        await before.end(self._hurry)
        self.live.remove(before)
        logger.info("Generation %d has ended.", before.number)

    def _note_failure(self, change: Change, reason: str) -> None:
        self._error = reason
        if change.action is Action.LOAD:
            self._load_errors[change.name] = reason
        self._tell_all()
        self._counts.increment(metrics.RELOAD_FAILURES)
        logger.error(
            "%s failed, and generation %d goes on: %s", change, self.generation.number, reason
        )

    async def _until_all(self, fact: str, number: int) -> None:
        """Wait until all HTTP workers have announced a number; one that is started anew has it."""
        await self._changes.until(lambda: all(facts[fact] == number for facts in self._facts()))

    def _facts(self) -> list[dict[str, Any]]:
        """Return what the HTTP workers have announced; one that is started anew begins afresh."""
        return [worker.facts for worker in self._workers if worker.facts is not None]

    def _aim_workers(self) -> None:
        """Have HTTP workers that are started from now on begin with the present state."""
        # The reasons of failures are told later: an option of a command has a limited length.
        models = [ConfiguredModel(each.name, each.state) for each in self._state().models]
        state = replace(self._state(), reload_error=None, models=tuple(models))
        for worker in self._workers:
            worker.options = ("--state", line_of(state).decode().strip())

    def _tell_all(self) -> None:
        self._aim_workers()
        for worker in self._workers:
            self.tell(worker)

    @staticmethod
    def _resolve(waiting: Sequence[asyncio.Future[int]], outcome: int | Exception) -> None:
        for answer in waiting:
            if answer.done():
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
