"""Reloads: another generation of engines is started beside the one that serves, and takes over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from service import metrics
from service.processes.changes import Changes
from service.processes.child import Child, StartFailedError
from service.processes.counts import SupervisorCounts
from service.processes.generation import Generation
from service.processes.state import ServiceState, line_of
from service.settings import SettingsError

logger = logging.getLogger(__name__)


class ReloadError(Exception):
    """A reload has changed nothing; the message says why."""


class StoppingError(Exception):
    """The service stops before it has reloaded."""


class Reloads:
    """Replaces the generation that serves, whenever it is asked to.

    A new generation is started. Once all of its engines are ready, each HTTP worker is told to send
    new requests to it; the requests that it began before finish with the old generation, which ends
    then. There are never more than two.

    Args:
        begin: makes the next generation of a number, given the one before.
        workers: the HTTP workers.
        changes: noted whenever a child has announced something.
        counts: of reloads.

    Attributes:
        generation: serves.
        live: every generation whose processes run, the oldest first.
    """

    def __init__(
        self,
        begin: Callable[[int, Generation | None], Generation],
        workers: Sequence[Child],
        changes: Changes,
        counts: SupervisorCounts,
    ) -> None:
        self._begin = begin
        self._workers = workers
        self._changes = changes
        self._counts = counts
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[int]] = []
        self._shown = 1
        self._error: str | None = None
        self._hurry = asyncio.Event()
        self.generation = begin(1, None)
        self.live = [self.generation]
        self._aim_workers()

    def ask(self) -> asyncio.Future[int]:
        """Ask for a reload.

        One that has not begun yet serves all who asked; one that has may have read the models
        before they were changed, so another follows it.

        Returns:
            The new generation's number, once every HTTP worker sends new requests to it; or
            ReloadError, or StoppingError.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # A signal's answer is awaited by nobody.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting.append(answer)
        self._asked.set()
        return answer

    async def run(self) -> None:
        """Reload whenever it is asked for, until cancelled; begin once the service is ready."""
        try:
            await self._changes.until(lambda: self.generation.ready)
            while True:
                await self._asked.wait()
                self._asked.clear()
                waiting, self._waiting = self._waiting, []
                try:
                    await self._replace()
                except ReloadError as error:
                    self._resolve(waiting, error)
                    continue
                except BaseException:
                    self._resolve(waiting, StoppingError())
                    raise
                self._resolve(waiting, self.generation.number)
                await self._retire()
        finally:
            self._resolve(self._waiting, StoppingError())

    def tell(self, worker: Child) -> None:
        """Tell an HTTP worker the state of the service."""
        state = ServiceState(
            self.generation.number, self.generation.sockets, self._shown, self._error
        )
        worker.send(line_of(state))

    async def _replace(self) -> None:
        """Start another generation and send new requests to it."""
        started, before = time.monotonic(), self.generation
        number = before.number + 1
        logger.info("Reloading: generation %d starts beside generation %d.", number, before.number)
        try:
            generation = await self._started(number, before)
        except (SettingsError, StartFailedError, OSError) as error:
            self._note_failure(str(error))
            raise ReloadError(str(error)) from error
        except Exception as error:
            # Whatever it is, the engines that serve are none the worse for it.
            logger.exception("A reload met an unforeseen error.")
            reason = f"an unforeseen error, {error!r}, which the log has in full"
            self._note_failure(reason)
            raise ReloadError(reason) from error
        generation.establish()
        self.generation, self._error = generation, None
        self._aim_workers()
        self._tell_all()
        await self._changes.until(
            lambda: all(facts["generation"] == number for facts in self._facts())
        )
        self._shown = number
        self._tell_all()
        self._counts.increment(metrics.RELOADS)
        logger.info("Generation %d serves after %.1f s.", number, time.monotonic() - started)

    async def _started(self, number: int, before: Generation) -> Generation:
        generation = self._begin(number, before)
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

    def _note_failure(self, reason: str) -> None:
        self._error = reason
        self._tell_all()
        self._counts.increment(metrics.RELOAD_FAILURES)
        logger.error(
            "The reload failed, and generation %d goes on: %s", self.generation.number, reason
        )

    def _facts(self) -> list[dict[str, Any]]:
        """Return what the HTTP workers have announced; one that is started anew begins afresh."""
        return [worker.facts for worker in self._workers if worker.facts is not None]

    def _aim_workers(self) -> None:
        """Have HTTP workers that are started from now on begin with the present generation."""
        for worker in self._workers:
            links = [word for path in self.generation.sockets for word in ("--engine", path)]
            worker.options = ("--generation", str(self.generation.number), *links)

    def _tell_all(self) -> None:
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
