"""The engines of this machine, as an HTTP worker sees them: one generation takes requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from model.config import TRAINED_TASKS_FOR, Operation, Task
from service.api.errors import (
    DeadlineUnreachableError,
    InvalidParameterError,
    NotReadyError,
    UnknownModelError,
)
from service.link.client import EngineClient
from service.link.messages import InferenceResult, ModelInfo, NetworkInput, Question, Welcome

ALL_READY_SECONDS = 10.0
"""Seconds after which a new generation takes requests although some of its engines, which were
ready before, are not."""


class EnginePool:
    """The engines of one generation; a request goes to the one with the least pending work.

    Args:
        generation: their generation's number.
        clients: one for each engine.

    Attributes:
        generation: as given.
        held: requests that hold the generation.
    """

    def __init__(self, generation: int, clients: list[EngineClient]) -> None:
        self.generation = generation
        self.held = 0
        self._clients = clients

    @property
    def ready(self) -> bool:
        """Whether any engine is ready."""
        return any(client.ready for client in self._clients)

    @property
    def offers(self) -> list[Welcome]:
        """Offers of the engines that have been warm."""
        return [client.offer for client in self._clients if client.offer is not None]

    def by_name(self) -> dict[str, ModelInfo]:
        """Return the models that the engines offer.

        Raises:
            NotReadyError: while no engine has said what it serves.
        """
        models = {model.name: model for offer in self.offers for model in offer.models}
        if not models:
            raise NotReadyError("The engine is still starting.", retry_after_seconds=1.0)
        return models

    def named(self, name: str) -> ModelInfo:
        """Return the model of a name, whatever its task.

        Raises:
            NotReadyError: while no engine has said what it serves.
            UnknownModelError: if there is no model of that name.
        """
        models = self.by_name()
        if name not in models:
            raise _unknown(name, models)
        return models[name]

    def find(self, task: Task, name: str | None) -> ModelInfo | None:
        """Return the model of a name; without one the default model of a task, None if it is off.

        Args:
            task: that the model has to perform.
            name: as a caller gives it, or None.

        Raises:
            NotReadyError: while no engine has said what it serves.
            UnknownModelError: if there is no model of that name.
            InvalidParameterError: if it performs another task.
        """
        models = self.by_name()
        able = [model.name for model in models.values() if model.task in TRAINED_TASKS_FOR[task]]
        if name is None:
            return models[able[0]] if able else None
        if name not in models:
            raise _unknown(name, able or models)
        if name not in able:
            others = f"there are {', '.join(able)}" if able else "there is no model"
            raise InvalidParameterError(
                f"model is {name}, which can {models[name].task}; to {task}, {others}."
            )
        return models[name]

    @property
    def pending_work_seconds(self) -> float:
        """Device time that the requests of the least loaded engine need."""
        return min(client.load[0] for client in self._clients)

    def reject_unreachable_deadline(
        self, operation: Operation, timeout_seconds: float, *, ahead_seconds: float
    ) -> None:
        """Reject a request that no engine can start before its deadline.

        It is judged by the engines' last reports, and again by the engine that gets it. While no
        engine is ready, nothing is rejected.

        Args:
            operation: the model and its task.
            timeout_seconds: time until the deadline.
            ahead_seconds: time until it can be sent, during which the engines' queues shrink.

        Raises:
            DeadlineUnreachableError: if the deadline cannot be met.
        """
        waits = [client.wait_seconds(operation) for client in self._clients if client.ready]
        needed_seconds = max(ahead_seconds, min(waits, default=0.0))
        if needed_seconds > timeout_seconds:
            raise DeadlineUnreachableError(
                needed_seconds=needed_seconds, left_seconds=timeout_seconds
            )

    async def run(self) -> None:
        """Keep in touch with all of them, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for client in self._clients:
                    tasks.create_task(client.run())
        finally:
            for client in self._clients:
                client.close()

    async def wait_until_ready(self) -> None:
        """Wait until every engine is ready or, after some time, until any one is."""
        waits = [asyncio.create_task(client.warm.wait()) for client in self._clients]
        done, _ = await asyncio.wait(waits, timeout=ALL_READY_SECONDS)
        if not done:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def submit(
        self,
        model: ModelInfo,
        question: Question,
        image: NetworkInput,
        *,
        deadline: float,
        timeout_seconds: float,
    ) -> InferenceResult:
        """Send an image to the least loaded engine, as ``EngineClient.submit`` does.

        Raises:
            NotReadyError: if no engine offers the model any more.
        """
        able = [client for client in self._clients if client.offers(model)]
        candidates = [client for client in able if client.ready] or able
        if not candidates:
            raise NotReadyError(f"No engine offers {model.name} now.", retry_after_seconds=1.0)
        client = min(candidates, key=lambda client: client.load)
        return await client.submit(
            model, question, image, deadline=deadline, timeout_seconds=timeout_seconds
        )


def _unknown(name: str, names: Iterable[str]) -> UnknownModelError:
    return UnknownModelError(f"There is no model {name!r}; there are {', '.join(names)}.")


@dataclass(frozen=True)
class OfferedModel:
    """A model, the generation of engines that offers it, and what is asked of it."""

    info: ModelInfo
    engines: EnginePool
    question: Question

    @cached_property
    def operation(self) -> Operation:
        """The model and the task that it is asked for."""
        return Operation(self.info.name, self.question.task)

    def asked(self, question: Question) -> OfferedModel:
        """Return the model with another question; itself if it is the same."""
        return self if question == self.question else replace(self, question=question)


class Generations:
    """The generation that takes requests and, while they finish theirs, the ones before it.

    Args:
        first: the generation at the start.

    Attributes:
        current: takes new requests.
        shown: the generation that ``/v1/models`` describes: the current one, once every HTTP worker
            sends requests to it.
        reload_error: why the last reload left the generation before it serving; None if it did not.
        on_change: called whenever another generation takes requests or is shown, or one is held no
            more.
    """

    def __init__(self, first: EnginePool) -> None:
        self.current = self.shown = first
        self.reload_error: str | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._runs: dict[EnginePool, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup  # while it runs

    @property
    def held(self) -> list[int]:
        """Numbers of the generations that are connected to, ascending."""
        return sorted(pool.generation for pool in self._runs)

    @contextmanager
    def entered(self) -> Iterator[EnginePool]:
        """Hold the current generation while the block runs: it ends no earlier."""
        pool = self.current
        pool.held += 1
        try:
            yield pool
        finally:
            pool.held -= 1
            self._leave_if_done(pool)

    async def run(self) -> None:
        """Keep in touch with the engines, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._connect(self.current)
            await asyncio.Event().wait()

    async def switch(self, pool: EnginePool) -> None:
        """Send new requests to another generation as soon as its engines are ready.

        Requests that were begun with the one before finish there.
        """
        self._connect(pool)
        await pool.wait_until_ready()
        before, self.current = self.current, pool
        self.on_change()
        self._leave_if_done(before)

    def show(self, generation: int) -> None:
        """Describe a generation in ``/v1/models``, if it is the current one."""
        if self.current.generation == generation and self.shown is not self.current:
            self.shown = self.current
            self.on_change()

    def _connect(self, pool: EnginePool) -> None:
        self._runs[pool] = self._tasks.create_task(pool.run())

    def _leave_if_done(self, pool: EnginePool) -> None:
        """Part from a generation that takes no requests and holds none."""
        if pool is not self.current and not pool.held and pool in self._runs:
            self._runs.pop(pool).cancel()
            self.on_change()
