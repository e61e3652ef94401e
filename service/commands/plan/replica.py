"""Simulation of one replica under a Poisson load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from model.config import Operation, Task
from service.api.errors import DeadlineUnreachableError, QueueFullError
from service.commands.bench.generator import poisson_arrivals
from service.commands.bench.summary import percentile
from service.commands.plan.virtual_engine import BatchRun, VirtualEngine
from service.engine.scheduling.cost_model import AffineCost, batch_sizes_up_to
from service.engine.scheduling.queues import QueueKey, Request

WARM_UP_FRACTION = 0.05
"""Part of the requests, at the start, that is not counted: meanwhile the queue fills."""

NOMINAL_SIZE = (224, 224)
"""Placeholder for the input size: the cost is given, so the size does not matter."""


@dataclass(frozen=True)
class ReplicaSetup:
    """A replica: the cost of its one engine, and its limits.

    Attributes:
        task: determines whether batches are padded.
        cost: time of a batch on its device.
        batch_limit: OVERLOCK_MAX_BATCH_SIZE.
        max_waiting: OVERLOCK_MAX_QUEUE_REQUESTS.
        timeout_seconds: timeout of each request.
        overhead_seconds: time of a request outside of queue and device.
    """

    task: Task
    cost: AffineCost
    batch_limit: int
    max_waiting: int
    timeout_seconds: float
    overhead_seconds: float = 0.0

    @property
    def most_per_second(self) -> float:
        """Throughput of the device in full batches."""
        return self.batch_limit / self.cost.seconds(self.batch_limit)


@dataclass(frozen=True)
class Target:
    """Latency and part of answered requests that a replica has to reach.

    Attributes:
        p99_seconds: latency that 99 % of the answered requests do not exceed.
        answered_fraction: least part of all requests that is answered in time.
    """

    p99_seconds: float
    answered_fraction: float


@dataclass(frozen=True)
class SimulationResult:
    """Measurements of a simulation.

    Attributes:
        requests_per_second: load that was offered to the replica.
        load: the same relative to its throughput in full batches; above 1 it cannot keep up.
        utilisation: part of the time that the device works. A free device takes any request that
            waits, so this is near 1 long before the load is.
        requests_per_batch: mean number.
        batch_sizes: part of the batches by size, padding included.
        mean_seconds: mean latency of the answered requests; None if there were none.
        p50_seconds: median of the same.
        p99_seconds: 99th percentile of the same.
        answered_fraction: part of all requests; the rest were refused or timed out.
    """

    requests_per_second: float
    load: float
    utilisation: float
    requests_per_batch: float
    batch_sizes: dict[int, float]
    mean_seconds: float | None
    p50_seconds: float | None
    p99_seconds: float | None
    answered_fraction: float


def simulate(
    setup: ReplicaSetup, per_second: float, *, requests: int, seed: int = 0
) -> SimulationResult:
    """Offer a replica a Poisson load and measure it.

    Args:
        setup: of the replica.
        per_second: the load; the same seed gives the same arrivals at any rate, only scaled.
        requests: their approximate number; a hundredth of them exceeds the p99.
        seed: of the arrivals.
    """
    replica = _Replica(setup, poisson_arrivals(per_second, requests / per_second, seed))
    replica.run(replica.arrivals())
    return replica.simulated(per_second)


def meets(setup: ReplicaSetup, per_second: float, target: Target, *, requests: int) -> bool:
    """Return whether a replica meets the target; stop early at a clear miss."""
    replica = _Replica(setup, poisson_arrivals(per_second, requests / per_second, 0), target)
    replica.run(replica.arrivals())
    if replica.missed:
        return False
    found = replica.simulated(per_second)
    # Sums of floats: a p99 of exactly one batch is met by one batch.
    allowed_seconds = target.p99_seconds * (1 + 1e-9)
    return (
        found.p99_seconds is not None
        and found.p99_seconds <= allowed_seconds
        and found.answered_fraction >= target.answered_fraction
    )


class _Replica(VirtualEngine[float, float]):
    """An engine that measures; a request's payload is the moment of its arrival."""

    def __init__(
        self, setup: ReplicaSetup, moments: list[float], target: Target | None = None
    ) -> None:
        self._queue = QueueKey(Operation("model", setup.task), NOMINAL_SIZE)
        super().__init__(
            {self._queue: setup.cost},
            max_waiting=setup.max_waiting,
            batch_sizes=batch_sizes_up_to(setup.batch_limit),
        )
        self._setup = setup
        self._moments = moments
        self._first = int(WARM_UP_FRACTION * len(moments))
        self._counts_from = moments[self._first]
        self._target = target
        self._counted = len(moments) - self._first
        self._latencies: list[float] = []
        self._late = self._unanswered = 0
        self._busy_seconds = 0.0
        self._batches: Counter[int] = Counter()
        self._batched = 0

    @property
    def missed(self) -> bool:
        """Whether the target can no longer be met."""
        if self._target is None:
            return False
        most_unanswered = (1 - self._target.answered_fraction) * self._counted
        return self._late > 0.01 * self._counted or self._unanswered > most_unanswered + 1e-9

    def arrivals(self) -> Iterator[tuple[float, float]]:
        """Yield all arrivals, or those until the target is missed."""
        for moment in self._moments:
            if self.missed:
                return
            yield moment, moment

    def simulated(self, per_second: float) -> SimulationResult:
        """Return the measurements."""
        batches = sum(self._batches.values())
        window_seconds = self._moments[-1] - self._counts_from
        p50, p99 = (percentile(self._latencies, percent) for percent in (50, 99))
        return SimulationResult(
            requests_per_second=per_second,
            load=per_second / self._setup.most_per_second,
            utilisation=min(self._busy_seconds / window_seconds, 1.0),
            requests_per_batch=self._batched / batches if batches else 0.0,
            batch_sizes={size: self._batches[size] / batches for size in sorted(self._batches)},
            mean_seconds=fmean(self._latencies) if self._latencies else None,
            p50_seconds=p50 if math.isfinite(p50) else None,
            p99_seconds=p99 if math.isfinite(p99) else None,
            answered_fraction=len(self._latencies) / self._counted,
        )

    def _handle(self, event: float) -> None:
        deadline = event + self._setup.timeout_seconds - self._setup.overhead_seconds
        request = Request(event, self._queue, event, deadline, event)
        try:
            self.scheduler.admit(request)
        except (QueueFullError, DeadlineUnreachableError):
            self._leave_unanswered(request)

    def _expired(self, request: Request[float]) -> None:
        self._leave_unanswered(request)

    def _finish(self, launch: BatchRun[float]) -> None:
        batch, seconds = launch.batch, launch.ended - launch.started
        self.scheduler.finished(batch, seconds, seconds)
        first, last = self._counts_from, self._moments[-1]
        self._busy_seconds += max(min(launch.ended, last) - max(launch.started, first), 0.0)
        if first <= launch.started <= last:
            self._batches[batch.size] += 1
            self._batched += len(batch.requests)
        for request in batch.requests:
            if launch.ended > request.deadline:
                self._leave_unanswered(request)
            elif request.payload >= first:
                latency_seconds = launch.ended - request.payload + self._setup.overhead_seconds
                self._latencies.append(latency_seconds)
                if self._target is not None:
                    self._late += latency_seconds > self._target.p99_seconds * (1 + 1e-9)

    def _leave_unanswered(self, request: Request[float]) -> None:
        self._unanswered += request.payload >= self._counts_from
