"""Requests that wait for the device, in queues by operation and input size, by urgency."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

from model.config import Operation

AGEING_SECONDS = 2.0
"""A request that has waited this long is as urgent as one at its deadline."""


Payload = TypeVar("Payload")


class QueueKey(NamedTuple):
    """The properties that all requests of a batch share.

    Attributes:
        operation: the model and its task.
        input_size: height and width of the network's input.
        quarantine: 0 for the queue that new requests join; otherwise the number of a queue that
            holds only suspects of one failed batch.
    """

    operation: Operation
    input_size: tuple[int, int]
    quarantine: int = 0

    @property
    def shape(self) -> QueueKey:
        """The key without its quarantine, on which a batch's cost depends."""
        return self._replace(quarantine=0) if self.quarantine else self

    @property
    def pixels(self) -> int:
        """Area of the network's input."""
        return self.input_size[0] * self.input_size[1]


@dataclass(frozen=True, eq=False)
class Request(Generic[Payload]):
    """A request that waits for the device.

    Attributes:
        identity: unique among the waiting requests.
        queue: shared by the requests that can be in its batch.
        arrived: moment of its admission.
        deadline: moment after which the caller no longer waits.
        payload: the engine's own data of the request; opaque here.
        alone: whether it runs in a batch of its own.
    """

    identity: Hashable
    queue: QueueKey
    arrived: float
    deadline: float
    payload: Payload
    alone: bool = False

    @property
    def urgency(self) -> float:
        """Moment by which it should run; lower is more urgent."""
        return min(self.deadline, self.arrived + AGEING_SECONDS)


@dataclass(frozen=True)
class Batch(Generic[Payload]):
    """Requests that share a forward pass.

    Attributes:
        queue: shared by its requests.
        requests: at least one, most urgent first.
        size: places on the device: the requests and the padding behind them.
    """

    queue: QueueKey
    requests: tuple[Request[Payload], ...]
    size: int


Heap = list[tuple[float, int, Hashable]]
"""Heap of a moment, the order of arrival and a request's identity.

The entry of a removed request stays in the heap until it reaches the top. Requests themselves are
held by ``RequestQueues`` alone, so their pixels are freed at once.
"""


@dataclass
class _Queue:
    """The requests of one key, by urgency."""

    heap: Heap = field(default_factory=list)
    waiting: int = 0


class RequestQueues(Generic[Payload]):
    """All waiting requests, by key, urgency and deadline."""

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

    def operations(self) -> set[Operation]:
        """Return the operations for which requests wait."""
        return {key.operation for key, queue in self._queues.items() if queue.waiting}

    def queues(self, operation: Operation) -> list[tuple[QueueKey, int]]:
        """Return the non-empty queues of an operation and their lengths."""
        return [
            (key, queue.waiting)
            for key, queue in self._queues.items()
            if queue.waiting and key.operation == operation
        ]

    def add(self, request: Request[Payload]) -> None:
        """Add a request."""
        self._requests[request.identity] = request
        queue = self._queues.setdefault(request.queue, _Queue())
        queue.waiting += 1
        order = next(self._arrivals)
        heapq.heappush(queue.heap, (request.urgency, order, request.identity))
        heapq.heappush(self._deadlines, (request.deadline, order, request.identity))

    def quarantine(self, requests: Sequence[Request[Payload]]) -> None:
        """Add requests to a queue of their own, which no other request joins."""
        number = next(self._quarantines)
        for request in requests:
            self.add(replace(request, queue=request.queue._replace(quarantine=number)))

    def remove(self, identity: Hashable) -> Request[Payload] | None:
        """Remove a request and return it; None if it is not waiting."""
        request = self._requests.pop(identity, None)
        if request is not None:
            self._queues[request.queue].waiting -= 1
        return request

    def pop_expired(self, now: float) -> list[Request[Payload]]:
        """Remove and return the requests whose deadline has passed."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            request = self.remove(heapq.heappop(self._deadlines)[2])
            if request is not None:
                expired.append(request)
        return expired

    def next_deadline(self) -> float | None:
        """Return the earliest deadline."""
        self._drop_removed(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def heads(self) -> dict[QueueKey, tuple[float, int]]:
        """Return urgency and arrival order of each queue's first request; the lowest is next."""
        for key, queue in list(self._queues.items()):
            self._drop_removed(queue.heap)
            if not queue.heap:
                # Every input size has a queue of its own, so empty ones would pile up.
                del self._queues[key]
        return {key: queue.heap[0][:2] for key, queue in self._queues.items()}

    def waiting_in(self, key: QueueKey) -> int:
        """Return the length of a queue."""
        return self._queues[key].waiting

    def take(self, key: QueueKey, count: int) -> tuple[Request[Payload], ...]:
        """Remove and return the most urgent requests of a queue, up to ``count``."""
        heap = self._queues[key].heap
        taken: list[Request[Payload]] = []
        while heap and len(taken) < count:
            request = self.remove(heapq.heappop(heap)[2])
            if request is not None:
                taken.append(request)
        return tuple(taken)

    def _drop_removed(self, heap: Heap) -> None:
        """Drop removed requests from the top of a heap."""
        while heap and heap[0][2] not in self._requests:
            heapq.heappop(heap)
