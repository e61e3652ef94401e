"""A device and its callers on a virtual clock: all that happens to a scheduler in a service."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.engine.requests import Batch, QueueKey, Request
from service.engine.scheduler import Scheduler
from service.errors import DeadlineUnreachableError, QueueFullError


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


@dataclass
class Launch:
    """A batch that went to the device, and who waited for it at that moment besides."""

    started: float
    ended: float
    batch: Batch[Arrival]
    left_waiting: tuple[Request[Arrival], ...]


@dataclass
class Simulation:
    """Runs arrivals through a scheduler until nothing is left.

    Attributes:
        arrivals: in any order.
        costs: fixed and per-image seconds of a batch, by shape.
        outcomes: for each arrival, all that it came to: answered, failed, refused, expired, left.
    """

    arrivals: Sequence[Arrival]
    costs: dict[QueueKey, tuple[float, float]]
    max_waiting: int = 64
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    now: float = 0.0
    launches: list[Launch] = field(default_factory=list)
    outcomes: dict[int, list[str]] = field(default_factory=dict)
    most_pending_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.scheduler: Scheduler[Arrival] = Scheduler(
            clock=lambda: self.now, max_waiting=self.max_waiting, batch_sizes=self.sizes
        )
        for shape, (fixed, per_image) in self.costs.items():
            for size in self.sizes:
                self.scheduler.learn(shape, size, fixed + per_image * size)
        self.waiting: dict[int, Request[Arrival]] = {}

    def run(self) -> None:
        """Let everything happen in its order; the device begins as soon as it may."""
        events = sorted(
            [(each.at, 0, number) for number, each in enumerate(self.arrivals)]
            + [
                (each.at + each.leaves_after, 1, number)
                for number, each in enumerate(self.arrivals)
                if each.leaves_after is not None
            ]
        )
        coming = iter(events)
        event = next(coming, None)
        busy: Launch | None = None
        while event is not None or busy is not None or self.waiting:
            deadline = self.scheduler.next_deadline()
            moments = [event[0] if event else None, busy.ended if busy else None, deadline]
            self.now = min(moment for moment in moments if moment is not None)
            if busy is not None and busy.ended <= self.now:
                self._finish(busy)
                busy = None
            while event is not None and event[0] <= self.now:
                self._arrive(event[2]) if event[1] == 0 else self._leave(event[2])
                event = next(coming, None)
            for request in self.scheduler.expire():
                self._end(request, "expired")
            if busy is None:
                busy = self._launch()
            self.most_pending_seconds = max(
                self.most_pending_seconds, self.scheduler.pending_work_seconds()
            )

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

    def _launch(self) -> Launch | None:
        batch = self.scheduler.next_batch()
        if batch is None:
            return None
        fixed, per_image = self.costs[batch.queue.shape]
        for request in batch.requests:
            del self.waiting[int(str(request.identity))]
        launch = Launch(
            self.now,
            self.now + fixed + per_image * batch.size,
            batch,
            tuple(self.waiting.values()),
        )
        self.launches.append(launch)
        return launch

    def _finish(self, launch: Launch) -> None:
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
