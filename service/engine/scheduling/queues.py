"""What waits for the device, by input size and by urgency. Pure, as the scheduler."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from model.config import Task

AGEING_SECONDS = 2.0
"""A request that has waited this long counts as due, however far its deadline is."""


Payload = TypeVar("Payload")


@dataclass(frozen=True)
class QueueKey:
    """What the requests of one batch have in common.

    Attributes:
        task: what is wanted of them.
        input_size: height and width of the network's input.
        quarantine: 0 for the queue that everyone joins; otherwise the number of one that holds
            suspects of a failed batch.
    """

    task: Task
    input_size: tuple[int, int]
    quarantine: int = 0

    @property
    def shape(self) -> QueueKey:
        """What a batch's cost depends on: whoever is in it."""
        return replace(self, quarantine=0) if self.quarantine else self

    @property
    def pixels(self) -> int:
        """Area of the network's input."""
        return self.input_size[0] * self.input_size[1]


@dataclass(frozen=True, eq=False)
class Request(Generic[Payload]):
    """One caller's wish, waiting for the device.

    Attributes:
        identity: unique among the requests that wait.
        queue: which requests it can share a batch with.
        arrived: moment of its admission.
        deadline: moment after which nobody waits for the answer.
        payload: what the engine needs to work on it and to answer; opaque here.
        alone: whether it shares a batch with nobody.
    """

    identity: Hashable
    queue: QueueKey
    arrived: float
    deadline: float
    payload: Payload
    alone: bool = False

    @property
    def urgency(self) -> float:
        """Moment by which it should be on the device; lower is more urgent."""
        return min(self.deadline, self.arrived + AGEING_SECONDS)


@dataclass(frozen=True)
class Batch(Generic[Payload]):
    """Requests that share a forward pass.

    Attributes:
        queue: what they have in common.
        requests: at least one, most urgent first.
        size: places on the device: the requests and the padding behind them.
    """

    queue: QueueKey
    requests: tuple[Request[Payload], ...]
    size: int


Heap = list[tuple[float, int, Hashable]]
"""A moment, the order of arrival, a request's identity.

What no longer waits stays in a heap until it surfaces. Only ``RequestQueues._requests`` holds
requests, so their pixels are gone at once.
"""


@dataclass
class _Queue:
    """Requests of one key, by urgency."""

    heap: Heap = field(default_factory=list)
    waiting: int = 0


class RequestQueues(Generic[Payload]):
    """The requests that wait."""

    def __init__(self) -> None:
        self._requests: dict[Hashable, Request[Payload]] = {}
        self._queues: dict[QueueKey, _Queue] = {}
        self._deadlines: Heap = []
        self._arrivals = itertools.count()
        self._quarantines = itertools.count(1)

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, identity: Hashable) -> bool:
        return identity in self._requests

    def __iter__(self) -> Iterator[Request[Payload]]:
        return iter(self._requests.values())

    def queues(self, task: Task) -> list[tuple[QueueKey, int]]:
        """Return the queues of a task in which requests wait, and how many."""
        return [
            (key, queue.waiting)
            for key, queue in self._queues.items()
            if queue.waiting and key.task is task
        ]

    def enter(self, request: Request[Payload]) -> None:
        """Let a request wait."""
        self._requests[request.identity] = request
        queue = self._queues.setdefault(request.queue, _Queue())
        queue.waiting += 1
        order = next(self._arrivals)
        heapq.heappush(queue.heap, (request.urgency, order, request.identity))
        heapq.heappush(self._deadlines, (request.deadline, order, request.identity))

    def quarantine(self, requests: Sequence[Request[Payload]]) -> None:
        """Let requests wait in a queue that nobody else joins."""
        number = next(self._quarantines)
        for request in requests:
            self.enter(replace(request, queue=replace(request.queue, quarantine=number)))

    def forget(self, identity: Hashable) -> Request[Payload] | None:
        """Let a request wait no longer and return it; None if it does not wait."""
        request = self._requests.pop(identity, None)
        if request is not None:
            self._queues[request.queue].waiting -= 1
        return request

    def expired(self, now: float) -> list[Request[Payload]]:
        """Forget the requests whose deadline has passed and return them."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            request = self.forget(heapq.heappop(self._deadlines)[2])
            if request is not None:
                expired.append(request)
        return expired

    def next_deadline(self) -> float | None:
        """Return the earliest deadline."""
        self._surface(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def heads(self) -> dict[QueueKey, tuple[float, int]]:
        """Return how urgent the first of each queue is; the lowest is the most urgent."""
        for key, queue in list(self._queues.items()):
            self._surface(queue.heap)
            if not queue.heap:
                # Input sizes come and go: an empty queue is not kept.
                del self._queues[key]
        return {key: queue.heap[0][:2] for key, queue in self._queues.items()}

    def waiting_in(self, key: QueueKey) -> int:
        """Return how many wait in a queue."""
        return self._queues[key].waiting

    def take(self, key: QueueKey, count: int) -> tuple[Request[Payload], ...]:
        """Forget the most urgent requests of a queue, so many at most, and return them."""
        heap = self._queues[key].heap
        taken: list[Request[Payload]] = []
        while heap and len(taken) < count:
            request = self.forget(heapq.heappop(heap)[2])
            if request is not None:
                taken.append(request)
        return tuple(taken)

    def _surface(self, heap: Heap) -> None:
        """Drop what no longer waits from the top of a heap."""
        while heap and heap[0][2] not in self._requests:
            heapq.heappop(heap)
