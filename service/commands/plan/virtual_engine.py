"""An engine on a virtual clock: the real scheduler, and a device that only lets time pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.engine.scheduling.cost_model import AffineCost
from service.engine.scheduling.queues import Batch, Payload, QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler

Event = TypeVar("Event")


@dataclass(frozen=True)
class BatchRun(Generic[Payload]):
    """A batch that went to the device.

    Attributes:
        started: moment, seconds.
        ended: moment at which the device is free again.
        batch: what ran.
    """

    started: float
    ended: float
    batch: Batch[Payload]


class VirtualEngine(ABC, Generic[Payload, Event]):
    """Processes events in order; the device starts a batch as soon as it is free.

    Subclasses define events and the handling of requests. The scheduler knows the cost of batches
    from the start, as after a warm-up.

    Args:
        costs: of every shape that occurs.
        max_waiting: as the scheduler's.
        batch_sizes: as the scheduler's.
    """

    def __init__(
        self,
        costs: Mapping[QueueKey, AffineCost],
        *,
        max_waiting: int,
        batch_sizes: tuple[int, ...],
    ) -> None:
        self.now = 0.0
        self.costs = costs
        self.scheduler: Scheduler[Payload] = Scheduler(
            clock=lambda: self.now, max_waiting=max_waiting, batch_sizes=batch_sizes
        )
        for shape, cost in costs.items():
            for size in batch_sizes:
                self.scheduler.learn(shape, size, cost.seconds(size))

    def run(self, events: Iterable[tuple[float, Event]]) -> None:
        """Process all events, until no request waits or runs any more.

        Args:
            events: each with its moment, seconds; ascending.
        """
        upcoming = iter(events)
        event = next(upcoming, None)
        running: BatchRun[Payload] | None = None
        while event is not None or running is not None or self.scheduler.waiting:
            deadline = self.scheduler.next_deadline()
            moments = [event[0] if event else None, running.ended if running else None, deadline]
            self.now = min(moment for moment in moments if moment is not None)
            if running is not None and running.ended <= self.now:
                self._finish(running)
                running = None
            while event is not None and event[0] <= self.now:
                self._handle(event[1])
                event = next(upcoming, None)
            for request in self.scheduler.expire():
                self._expired(request)
            if running is None:
                running = self._start_batch()
            self._settled()

    def _start_batch(self) -> BatchRun[Payload] | None:
        """Start a batch on the free device, if a request waits."""
        batch = self.scheduler.next_batch()
        if batch is None:
            return None
        seconds = self.costs[batch.queue.shape].seconds(batch.size)
        return BatchRun(self.now, self.now + seconds, batch)

    @abstractmethod
    def _handle(self, event: Event) -> None:
        """Handle an event, now."""

    @abstractmethod
    def _expired(self, request: Request[Payload]) -> None:
        """Handle a request that waited until its deadline."""

    @abstractmethod
    def _finish(self, run: BatchRun[Payload]) -> None:
        """Report a finished batch to the scheduler and the callers."""

    def _settled(self) -> None:
        """Do what follows after everything of this moment; by default, nothing."""
