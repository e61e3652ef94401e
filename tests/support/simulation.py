"""Simulation of a scheduler with a device and its callers on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.api.errors import DeadlineUnreachableError, QueueFullError
from service.commands.plan.virtual_engine import BatchRun, VirtualEngine
from service.engine.scheduling.cost_model import AffineCost
from service.engine.scheduling.queues import QueueKey, Request


@dataclass(frozen=True)
class Arrival:
    """A request that will come.

    Attributes:
        at: moment, seconds.
        queue: what it can share a batch with.
        timeout: how long its caller waits, seconds.
        leaves_after: how long its client stays, seconds; None for as long as it takes.
        poisonous: whether every batch that it is in fails.
    """

    at: float
    queue: QueueKey
    timeout: float
    leaves_after: float | None = None
    poisonous: bool = False


@dataclass(frozen=True)
class ObservedBatch(BatchRun[Arrival]):
    """A batch that went to the device, and who waited for it at that moment besides."""

    left_waiting: tuple[Request[Arrival], ...]


class Simulation(VirtualEngine[Arrival, tuple[int, int]]):
    """Runs arrivals through a scheduler until nothing is left.

    Args:
        arrivals: in any order.
        costs: fixed and per-image seconds of a batch, by shape.
        max_waiting: the scheduler's.
        sizes: of batches.

    Attributes:
        batches: all that were started.
        outcomes: for each arrival, all that it came to: answered, failed, refused, expired, left.
        most_pending_seconds: that there ever were.
    """

    def __init__(
        self,
        arrivals: Sequence[Arrival],
        costs: dict[QueueKey, tuple[float, float]],
        max_waiting: int = 64,
        sizes: tuple[int, ...] = (1, 2, 4, 8),
    ) -> None:
        lines = {shape: AffineCost(*cost) for shape, cost in costs.items()}
        super().__init__(lines, max_waiting=max_waiting, batch_sizes=sizes)
        self.arrivals = arrivals
        self.waiting: dict[int, Request[Arrival]] = {}
        self.batches: list[ObservedBatch] = []
        self.outcomes: dict[int, list[str]] = {}
        self.most_pending_seconds = 0.0

    def run_all(self) -> None:
        """Let everyone come, and leave."""
        self.run(
            (at, (leaves, number))
            for at, leaves, number in sorted(
                [(each.at, 0, number) for number, each in enumerate(self.arrivals)]
                + [
                    (each.at + each.leaves_after, 1, number)
                    for number, each in enumerate(self.arrivals)
                    if each.leaves_after is not None
                ]
            )
        )

    def _handle(self, event: tuple[int, int]) -> None:
        leaves, number = event
        self._leave(number) if leaves else self._arrive(number)

    def _arrive(self, number: int) -> None:
        arrival = self.arrivals[number]
        request = Request(number, arrival.queue, self.now, self.now + arrival.timeout, arrival)
        try:
            self.scheduler.admit(request)
        except (QueueFullError, DeadlineUnreachableError):
            self._end(request, "refused")
        else:
            self.waiting[number] = request

    def _leave(self, number: int) -> None:
        if self.scheduler.cancel(number):
            self._end(self.waiting[number], "left")

    def _expired(self, request: Request[Arrival]) -> None:
        self._end(request, "expired")

    def _start_batch(self) -> BatchRun[Arrival] | None:
        launch = super()._start_batch()
        if launch is None:
            return None
        for request in launch.batch.requests:
            del self.waiting[int(str(request.identity))]
        left_waiting = tuple(self.waiting.values())
        watched = ObservedBatch(launch.started, launch.ended, launch.batch, left_waiting)
        self.batches.append(watched)
        return watched

    def _finish(self, launch: BatchRun[Arrival]) -> None:
        batch, seconds = launch.batch, launch.ended - launch.started
        if not any(request.payload.poisonous for request in batch.requests):
            self.scheduler.finished(batch, seconds, seconds)
            for request in batch.requests:
                self._end(request, "answered")
            return
        self.scheduler.failed(batch, seconds)
        if len(batch.requests) == 1:
            self._end(batch.requests[0], "failed")
            return
        kept = self.scheduler.split(batch)
        for request in batch.requests:
            if request in kept:
                self.waiting[int(str(request.identity))] = request
            else:
                self._end(request, "left")

    def _settled(self) -> None:
        pending_seconds = self.scheduler.pending_work_seconds()
        self.most_pending_seconds = max(self.most_pending_seconds, pending_seconds)

    def _end(self, request: Request[Arrival], outcome: str) -> None:
        number = int(str(request.identity))
        self.waiting.pop(number, None)
        self.outcomes.setdefault(number, []).append(outcome)


def arrival_times(pattern: str, count: int, rate: float, chance: random.Random) -> Iterator[float]:
    """Yield moments, seconds: steady, as Poisson's, or in bursts of eight."""
    now = 0.0
    for number in range(count):
        match pattern:
            case "steady":
                now += 1 / rate
            case "poisson":
                now += chance.expovariate(rate)
            case "bursts":
                now += 8 / rate if number % 8 == 0 else 0.0
        yield now
