"""The scheduler: admits requests and composes the batch that the device runs next.

It is greedy: a free device runs whatever waits, without a batching window. A batch is composed when
the device is ready for it, so an urgent late request is in it and a cancelled one is not. Only a
full batch may be composed while another runs: of what could still come, it has room for nothing.

Operations, each a task of a model, share the device's time fairly: the one that has had the least
of it while it had work goes next, so a flood of slow detections delays a classification by one
batch and not by all of them. Within an operation there is one queue for each input size, since a
batch holds one exact shape; the queue with the most urgent head goes first. Suspects of a failed
batch wait in quarantine, in queues that no other request joins.

Source: docs/adr/0006-fair-shares.md, docs/adr/0010-poison-requests.md, docs/adr/0011-no-holding.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic

from model.config import Operation
from service.api.errors import DeadlineUnreachableError, QueueFullError
from service.engine.scheduling.cost_model import AffineCost, BatchSizer, SlowdownEstimator
from service.engine.scheduling.queues import Batch, Payload, QueueKey, Request, RequestQueues

HEADROOM = 1.1
"""Factor on the expected time of the work ahead. Under overload every admitted request is expected
to be just in time: without a margin many would miss their deadline and waste device time."""


class FairShares:
    """Device time used by each operation, on a virtual clock that runs only while there is work.

    An operation that was idle starts where the others are: idle time is not credited.

    Source: start-time fair queueing (Goyal, Vin and Cheng, 1996); docs/adr/0006-fair-shares.md.
    """

    def __init__(self) -> None:
        self._used: defaultdict[Operation, float] = defaultdict(float)
        self._now = 0.0

    def begin(self, operation: Operation) -> None:
        """Record that an operation has work again."""
        self._used[operation] = max(self._used[operation], self._now)

    def virtual_start(self, operation: Operation) -> float:
        """Return the operation's virtual start time; the lowest goes first."""
        return self._used[operation]

    def ahead(self, operation: Operation, other: Operation) -> float:
        """Return how many more seconds one has used than another; negative if it goes first."""
        return max(self._used[operation], self._now) - self._used[other]

    def charge(self, operation: Operation, expected_seconds: float) -> None:
        """Charge the expected time of a batch that begins."""
        self._now = self._used[operation]
        self._used[operation] += expected_seconds

    def correct(self, operation: Operation, expected_seconds: float, seconds: float) -> None:
        """Replace the expected time of a batch by the measured one."""
        self._used[operation] += seconds - expected_seconds


@dataclass(frozen=True, eq=False)
class _Running(Generic[Payload]):
    """A batch on the device."""

    batch: Batch[Payload]
    expected_seconds: float


class Scheduler(Generic[Payload]):
    """Admits, orders, batches and expires requests.

    Args:
        clock: returns the present moment, seconds.
        max_waiting: most requests of one operation that may wait.
        batch_sizes: sizes that batches are padded to, ascending.
    """

    def __init__(
        self, *, clock: Callable[[], float], max_waiting: int, batch_sizes: tuple[int, ...]
    ) -> None:
        self._clock = clock
        self._max_waiting = max_waiting
        self._batch_sizer = BatchSizer(batch_sizes)
        self._queues: RequestQueues[Payload] = RequestQueues()
        self._on_device: dict[Hashable, Request[Payload]] = {}
        self._running: list[_Running[Payload]] = []
        self._busy_until = 0.0
        self._slowdown = SlowdownEstimator()
        self._shares = FairShares()

    @property
    def costs(self) -> dict[QueueKey, AffineCost]:
        """Learnt cost of each shape."""
        return self._batch_sizer.costs

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return len(self._queues)

    def pending_work_seconds(self) -> float:
        """Return the expected device time of all waiting and running requests."""
        return self._running_seconds() + sum(map(self._work_seconds, self._queues.operations()))

    def wait_seconds(self) -> dict[Operation, float]:
        """Return the expected wait of one more request, for each operation with a known cost."""
        operations = {key.operation for key in self.costs}
        return {operation: self._wait_seconds(operation, 0.0) for operation in operations}

    def admit(self, request: Request[Payload]) -> None:
        """Admit a request; one with the identity of a waiting request is ignored.

        Raises:
            QueueFullError: if there is no room.
            DeadlineUnreachableError: if the work ahead takes longer than its deadline allows.
        """
        if request.identity in self._queues:
            return
        operation = request.queue.operation
        queues = dict(self._queues.queues(operation))
        waiting = sum(queues.values())
        if waiting >= self._max_waiting:
            raise QueueFullError(
                waiting=waiting,
                limit=self._max_waiting,
                retry_after_seconds=self._wait_seconds(operation, 0.0),
            )
        own_seconds = self._batch_sizer.joining_seconds(request.queue, queues.get(request.queue, 0))
        needed_seconds = self._wait_seconds(operation, own_seconds)
        left_seconds = request.deadline - self._clock()
        if needed_seconds > left_seconds:
            raise DeadlineUnreachableError(needed_seconds=needed_seconds, left_seconds=left_seconds)
        if not waiting:
            self._shares.begin(operation)
        if request.alone:
            self._queues.quarantine([request])
        else:
            self._queues.add(request)

    def cancel(self, identity: Hashable) -> Request[Payload] | None:
        """Remove a waiting request and return it; None if it is not waiting."""
        self._on_device.pop(identity, None)
        return self._queues.remove(identity)

    def cancel_all(self, belongs: Callable[[Request[Payload]], bool]) -> int:
        """Remove all requests that ``belongs`` selects; return how many of them waited."""
        requests = [*self._queues, *self._on_device.values()]
        cancelled = [self.cancel(request.identity) for request in requests if belongs(request)]
        return len(cancelled) - cancelled.count(None)

    def expire(self) -> list[Request[Payload]]:
        """Remove and return the requests whose deadline has passed."""
        return self._queues.pop_expired(self._clock())

    def next_deadline(self) -> float | None:
        """Return the moment at which the next waiting request expires."""
        return self._queues.next_deadline()

    def next_batch(self, *, full: bool = False) -> Batch[Payload] | None:
        """Compose the next batch; None if nothing waits.

        Call ``expire`` first: a request past its deadline is not worth device time.

        Args:
            full: whether the device is not free yet. Then only a full batch is composed, of no
                suspects, to run behind the present one.
        """
        heads = self._queues.heads()
        if not heads:
            return None
        # The most urgent queue of the operation that goes next.
        key = min(heads, key=lambda key: (self._shares.virtual_start(key.operation), heads[key]))
        waiting = self._queues.waiting_in(key)
        if full and (key.quarantine or not self._batch_sizer.fills(key, waiting)):
            return None
        size = self._batch_sizer.choose(key, waiting)
        batch = Batch(key, self._queues.take(key, size), size)
        running = _Running(batch, self._batch_sizer.seconds(key, size))
        self._shares.charge(key.operation, running.expected_seconds)
        before = {request.identity for each in self._running for request in each.batch.requests}
        self._on_device = {
            **{name: request for name, request in self._on_device.items() if name in before},
            **{request.identity: request for request in batch.requests},
        }
        self._running.append(running)
        if len(self._running) == 1:
            self._begin()
        else:
            now, slowdown = self._clock(), self._slowdown.slowdown
            self._busy_until = max(self._busy_until, now) + slowdown * running.expected_seconds
        return batch

    def expected_seconds(self, batch: Batch[Payload]) -> float:
        """Return the expected device time of a batch."""
        return self._batch_sizer.seconds(batch.queue, batch.size)

    def finished(
        self, batch: Batch[Payload], device_seconds: float, network_seconds: float
    ) -> None:
        """Record that a batch has ended, and learn its cost.

        Args:
            batch: returned by ``next_batch``.
            device_seconds: time that it occupied the device.
            network_seconds: the part that another batch of its shape takes too, without resizing
                results to the callers' images.
        """
        self._slowdown.end(more_waits=self.waiting > 0 or len(self._running) > 1)
        self._end(batch, device_seconds)
        self._batch_sizer.observe(batch.queue, batch.size, network_seconds)

    def failed(self, batch: Batch[Payload], device_seconds: float) -> None:
        """Record that a batch failed, as ``finished`` does; its cost is not learnt."""
        self._end(batch, device_seconds)

    def split(self, batch: Batch[Payload]) -> list[Request[Payload]]:
        """Quarantine the halves of a failed batch, each in a queue of its own.

        Repeated halving finds the poison request. Requests that were cancelled meanwhile are
        dropped.

        Returns:
            The requests that wait again.
        """
        remaining = [request for request in batch.requests if request.identity in self._on_device]
        middle = (len(remaining) + 1) // 2
        for half in (remaining[:middle], remaining[middle:]):
            self._queues.quarantine(half)
        return remaining

    def cap(self, batch: Batch[Payload]) -> int:
        """Limit batches of this shape to less than this one's size; return the new limit."""
        return self._batch_sizer.cap(batch.queue, batch.size)

    def learn(self, key: QueueKey, size: int, device_seconds: float) -> None:
        """Learn from a warm-up batch."""
        self._batch_sizer.observe(key, size, device_seconds, lasting=True)

    def limit(self, operation: Operation, largest: int) -> None:
        """Limit an operation's batches to the size that fits into the device's memory."""
        self._batch_sizer.limit(operation, largest)

    def _begin(self) -> None:
        """Note that the first batch on the device begins."""
        now, expected = self._clock(), [each.expected_seconds for each in self._running]
        self._busy_until = now + self._slowdown.slowdown * sum(expected)
        self._slowdown.begin(now, expected[0])

    def _end(self, batch: Batch[Payload], device_seconds: float) -> None:
        """Note that a batch has left the device; the one behind it begins."""
        (ended,) = (each for each in self._running if each.batch is batch)
        self._running.remove(ended)
        self._shares.correct(batch.queue.operation, ended.expected_seconds, device_seconds)
        if self._running:
            self._begin()
        else:
            self._busy_until = 0.0

    def _running_seconds(self) -> float:
        return max(self._busy_until - self._clock(), 0.0)

    def _work_seconds(self, operation: Operation) -> float:
        """Return the expected device time of an operation's waiting requests."""
        return sum(
            self._batch_sizer.drain_seconds(key, waiting)
            for key, waiting in self._queues.queues(operation)
        )

    def _wait_seconds(self, operation: Operation, seconds: float) -> float:
        """Return the time until one more request, which takes ``seconds``, is done.

        Until then the other operations get as much time as this one, less any lead that they have.
        """
        own = self._work_seconds(operation)
        others = sum(
            self._overtaking_seconds(other, self._shares.ahead(operation, other) + own)
            for other in self._queues.operations() - {operation}
        )
        ahead = self._slowdown.slowdown * (own + seconds + others)
        return self._running_seconds() + HEADROOM * ahead

    def _overtaking_seconds(self, operation: Operation, behind_seconds: float) -> float:
        """Return the device time that one gets before another one that is ahead of it."""
        queues = self._queues.queues(operation)
        if behind_seconds < 0:
            return 0.0
        # Its last batch begins while it is still behind, so it may overshoot by that batch.
        last = max(
            self._batch_sizer.seconds(key, self._batch_sizer.choose(key, waiting))
            for key, waiting in queues
        )
        return min(self._work_seconds(operation), behind_seconds + last)
