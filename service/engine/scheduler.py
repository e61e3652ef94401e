"""Decides what the device works on next. Pure: no torch, no sockets, the clock is handed in.

Greedy: a free device takes what waits, without a window. A batch is composed when the device is
ready for it, so an urgent request that comes late still gets in and one that was cancelled never
does.

Tasks share the device's time fairly: the one that has had the least of it while it had work goes
next, so a flood of slow detections delays a classification by one batch and not by all of them.
Within a task there is one queue for each input size, since a batch holds one exact shape; the queue
with the most urgent head goes first. What may be to blame for a failure waits in closed queues,
which nobody else's requests join.

Source: serving.md, section 1.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from model.config import Task
from service.engine.cost import AffineCost
from service.engine.fairness import FairShares
from service.engine.requests import Batch, Payload, QueueKey, Request
from service.errors import DeadlineUnreachableError, QueueFullError

BATCH_SECONDS = 2.0
"""A batch that is expected to take longer is made smaller: another task waits for its end."""

UNPADDED = frozenset({Task.DETECT})
"""Tasks whose batches have no padding: behind the backbone, a detector works image by image."""

Heap = list[tuple[float, int, Hashable]]
"""A moment, the order of arrival, a request's identity.

What no longer waits stays in a heap until it surfaces. Only ``Scheduler._requests`` holds requests,
so their pixels are gone at once.
"""


@dataclass
class _Queue:
    """Waiting requests by urgency."""

    heap: Heap = field(default_factory=list)
    waiting: int = 0


class Scheduler(Generic[Payload]):
    """Admits, orders, batches and expires requests.

    Args:
        clock: returns the present moment, seconds.
        max_waiting: most requests of one task that may wait.
        batch_sizes: sizes that batches are padded to, rising.
    """

    def __init__(
        self, *, clock: Callable[[], float], max_waiting: int, batch_sizes: tuple[int, ...]
    ) -> None:
        self._clock = clock
        self._max_waiting = max_waiting
        self._batch_sizes = batch_sizes
        self._requests: dict[Hashable, Request[Payload]] = {}
        self._queues: dict[QueueKey, _Queue] = {}
        self._deadlines: Heap = []
        self._arrivals = itertools.count()
        self._closed_queues = itertools.count(1)
        self._on_device: set[Hashable] = set()
        self._caps: dict[QueueKey, int] = {}
        self._limits: dict[Task, int] = {}
        self._busy_until = 0.0
        self._shares = FairShares()
        self.costs: dict[QueueKey, AffineCost] = {}

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._requests)

    def pending_work_seconds(self) -> float:
        """Return the device time that waiting and running requests need, as far as known."""
        return self._running_seconds() + sum(self._work_seconds(task) for task in Task)

    def wait_seconds(self) -> dict[Task, float]:
        """Return how long one more request of each known task would wait for the device."""
        return {task: self._wait_seconds(task, 0.0) for task in {key.task for key in self.costs}}

    def admit(self, request: Request[Payload]) -> None:
        """Let a request wait; one that waits already under the same identity is not doubled.

        Raises:
            QueueFullError: if there is no room.
            DeadlineUnreachableError: if the work ahead takes longer than its deadline allows.
        """
        if request.identity in self._requests:
            return
        task = request.queue.task
        waiting = sum(queue.waiting for key, queue in self._queues.items() if key.task is task)
        if waiting >= self._max_waiting:
            raise QueueFullError(
                waiting=waiting,
                limit=self._max_waiting,
                retry_after_seconds=self._wait_seconds(task, 0.0),
            )
        needed_seconds = self._wait_seconds(task, self._cost(request.queue).seconds(1))
        left_seconds = request.deadline - self._clock()
        if needed_seconds > left_seconds:
            raise DeadlineUnreachableError(needed_seconds=needed_seconds, left_seconds=left_seconds)
        if not waiting:
            self._shares.begin(task)
        if request.alone:
            self._enter_closed([request])
        else:
            self._enter(request)

    def cancel(self, identity: Hashable) -> bool:
        """Forget a waiting request; return whether it did wait."""
        self._on_device.discard(identity)
        request = self._requests.get(identity)
        if request is None:
            return False
        self._forget(request)
        return True

    def expire(self) -> list[Request[Payload]]:
        """Forget the requests whose deadline has passed and return them."""
        now = self._clock()
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            request = self._requests.get(heapq.heappop(self._deadlines)[2])
            if request is not None:
                self._forget(request)
                expired.append(request)
        return expired

    def next_deadline(self) -> float | None:
        """Return the moment at which ``expire`` has something to do next."""
        self._surface(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def next_batch(self) -> Batch[Payload] | None:
        """Compose the batch that the free device should run now; None if nothing waits.

        Call ``expire`` first: a request past its deadline is not worth device time.
        """
        chosen = self._next_queue()
        if chosen is None:
            return None
        key, queue = chosen
        size = self._batch_size(key, queue.waiting)
        requests: list[Request[Payload]] = []
        while queue.heap and len(requests) < size:
            request = self._requests.get(heapq.heappop(queue.heap)[2])
            if request is not None:
                self._forget(request)
                requests.append(request)
        self._on_device = {request.identity for request in requests}
        seconds = self._cost(key).seconds(size)
        self._busy_until = self._clock() + seconds
        self._shares.charge(key.task, seconds)
        return Batch(key, tuple(requests), size)

    def expected_seconds(self, batch: Batch[Payload]) -> float:
        """Return the device time that a batch should need, as far as known."""
        return self._cost(batch.queue).seconds(batch.size)

    def finished(
        self, batch: Batch[Payload], device_seconds: float, network_seconds: float
    ) -> None:
        """Note that the device is free again, and learn what the batch cost.

        Args:
            batch: as it was composed.
            device_seconds: how long it had the device.
            network_seconds: of those, what another batch of its size takes too; a result in the
                size of someone's huge photograph is not what the next request will cost.
        """
        self._busy_until = 0.0
        self._shares.correct(batch.queue.task, device_seconds)
        self._observed(batch.queue).observe(batch.size, network_seconds)

    def failed(self, batch: Batch[Payload], device_seconds: float) -> None:
        """Note that the device is free again after a batch that taught nothing."""
        self._busy_until = 0.0
        self._shares.correct(batch.queue.task, device_seconds)

    def split(self, batch: Batch[Payload]) -> list[Request[Payload]]:
        """Let the halves of a batch that failed wait again, apart from each other and all others.

        Halving on finds whoever is to blame. A request whose client left meanwhile is dropped.

        Returns:
            The requests that wait again.
        """
        remaining = [each for each in batch.requests if each.identity in self._on_device]
        middle = (len(remaining) + 1) // 2
        for half in (remaining[:middle], remaining[middle:]):
            self._enter_closed(half)
        return remaining

    def cap(self, batch: Batch[Payload]) -> int:
        """Never again make a batch of this shape as large; return the size that is left."""
        smaller = [size for size in self._batch_sizes if size < batch.size]
        self._caps[batch.queue.shape] = max(smaller, default=self._batch_sizes[0])
        return self._caps[batch.queue.shape]

    def learn(self, key: QueueKey, size: int, device_seconds: float) -> None:
        """Learn from a warm-up batch."""
        self._observed(key).observe(size, device_seconds, lasting=True)

    def limit(self, task: Task, largest: int) -> None:
        """Make no batch of a task larger than what fits into the device's memory."""
        self._limits[task] = largest

    def _observed(self, key: QueueKey) -> AffineCost:
        return self.costs.setdefault(key.shape, AffineCost())

    def _cost(self, key: QueueKey) -> AffineCost:
        """Return what was learnt of an input size, or guess from the nearest one of its task."""
        if key.shape in self.costs:
            return self.costs[key.shape]
        known = [other for other in self.costs if other.task is key.task]
        if not known:
            return AffineCost()
        nearest = min(known, key=lambda other: abs(other.pixels - key.pixels))
        return self.costs[nearest].scaled(key.pixels / nearest.pixels)

    def _running_seconds(self) -> float:
        return max(self._busy_until - self._clock(), 0.0)

    def _work_seconds(self, task: Task) -> float:
        """Return the device time that the waiting requests of a task need."""
        return sum(
            self._drain_seconds(key, queue.waiting)
            for key, queue in self._queues.items()
            if queue.waiting and key.task is task
        )

    def _wait_seconds(self, task: Task, seconds: float) -> float:
        """Return when one more request of a task is done, which itself takes ``seconds``.

        The other tasks get as much time as this one meanwhile, unless they had more before.
        """
        own = self._work_seconds(task)
        others = sum(
            self._overtaking_seconds(other, self._shares.ahead(task, other) + own)
            for other in Task
            if other is not task
        )
        return self._running_seconds() + own + seconds + others

    def _overtaking_seconds(self, task: Task, behind_seconds: float) -> float:
        """Return what a task gets done as long as it is behind another one, now by so much."""
        queues = [(key, q) for key, q in self._queues.items() if q.waiting and key.task is task]
        if not queues or behind_seconds < 0:
            return 0.0
        # It is still behind when its last batch begins.
        last = max(self._cost(key).seconds(self._batch_size(key, q.waiting)) for key, q in queues)
        return min(self._work_seconds(task), behind_seconds + last)

    def _surface(self, heap: Heap) -> None:
        """Drop what no longer waits from the top of a heap."""
        while heap and heap[0][2] not in self._requests:
            heapq.heappop(heap)

    def _enter_closed(self, requests: Sequence[Request[Payload]]) -> None:
        """Let requests wait in a queue that nobody else joins."""
        number = next(self._closed_queues)
        for request in requests:
            self._enter(replace(request, queue=replace(request.queue, closed=number)))

    def _enter(self, request: Request[Payload]) -> None:
        self._requests[request.identity] = request
        queue = self._queues.setdefault(request.queue, _Queue())
        queue.waiting += 1
        order = next(self._arrivals)
        heapq.heappush(queue.heap, (request.urgency, order, request.identity))
        heapq.heappush(self._deadlines, (request.deadline, order, request.identity))

    def _forget(self, request: Request[Payload]) -> None:
        del self._requests[request.identity]
        self._queues[request.queue].waiting -= 1

    def _next_queue(self) -> tuple[QueueKey, _Queue] | None:
        """Return the most urgent queue of the task whose turn it is."""
        for key, queue in list(self._queues.items()):
            self._surface(queue.heap)
            if not queue.heap:
                # Input sizes come and go: an empty queue is not kept.
                del self._queues[key]
        return min(
            self._queues.items(),
            key=lambda item: (self._shares.turn(item[0].task), item[1].heap[0][:2]),
            default=None,
        )

    def _batch_size(self, key: QueueKey, waiting: int) -> int:
        """Choose the places of the next batch: pad up, or split off a smaller full one."""
        if key.task in UNPADDED:
            return min(waiting, self._sizes(key)[-1])
        cost, sizes = self._cost(key), self._sizes(key)
        above = next((size for size in sizes if size >= waiting), None)
        if above is None:
            return sizes[-1]
        below = max((size for size in sizes if size <= waiting), default=above)
        split_seconds = cost.seconds(below) + self._drain_seconds(key, waiting - below)
        return above if cost.seconds(above) <= split_seconds else below

    def _sizes(self, key: QueueKey) -> Sequence[int]:
        """Return the batch sizes that are short enough and fit in memory, at least the smallest."""
        cost, largest = self._cost(key), self._batch_sizes[-1]
        cap = min(self._caps.get(key.shape, largest), self._limits.get(key.task, largest))
        fitting = [
            size
            for size in self._batch_sizes
            if size <= cap and cost.seconds(size) <= BATCH_SECONDS
        ]
        return fitting or self._batch_sizes[:1]

    def _drain_seconds(self, key: QueueKey, waiting: int) -> float:
        """Return the device time for ``waiting`` requests of one queue, in full batches."""
        cost, largest = self._cost(key), self._sizes(key)[-1]
        full, rest = divmod(waiting, largest)
        return full * cost.seconds(largest) + (cost.seconds(rest) if rest else 0.0)


def batch_sizes_up_to(largest: int) -> tuple[int, ...]:
    """Return the powers of two below ``largest``, and ``largest`` itself."""
    return (*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest)
