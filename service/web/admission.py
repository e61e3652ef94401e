"""Limits of one HTTP worker: its requests, their bytes, the expected wait for decoding, its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from model.config import Task
from service import metrics
from service.api.errors import MemoryFullError, NotReadyError, QueueFullError
from service.ewma import Ewma

MEMORY = 0.9
"""Weight of past decodings when another one ends: about the last ten count."""

HEADROOM = 1.25
"""Factor on the expected wait: a margin, so that an admitted request meets its deadline."""


class Permit:
    """One request's permission to be processed, and the bytes that it holds meanwhile."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Raise the bytes held to ``size_bytes``; a smaller number changes nothing.

        Raises:
            MemoryFullError: if all requests together would hold too many.
        """
        if size_bytes > self.held_bytes:
            self._limiter.grow(size_bytes - self.held_bytes)
            self.held_bytes = size_bytes


class ConcurrencyLimiter:
    """Hands out permits, up to a number of requests for each task and of bytes for all.

    Args:
        max_requests: most requests of one task.
        max_bytes: most bytes that all requests hold together.
        retry_after_seconds: estimates when there will be room again.

    Attributes:
        taken: requests that hold a permit, by task.
        held_bytes: bytes that they hold together.
    """

    def __init__(
        self, *, max_requests: int, max_bytes: int, retry_after_seconds: Callable[[], float]
    ) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._retry_after_seconds = retry_after_seconds
        self.taken = dict.fromkeys(Task, 0)
        self.held_bytes = 0

    @contextmanager
    def take(self, task: Task) -> Iterator[Permit]:
        """Hold a permit while the block runs; it is returned however the block ends.

        Raises:
            QueueFullError: if there are too many requests of the task.
        """
        if self.taken[task] >= self._max_requests:
            raise QueueFullError(
                waiting=self.taken[task],
                limit=self._max_requests,
                retry_after_seconds=self._retry_after_seconds(),
            )
        permit = Permit(self)
        self.taken[task] += 1
        try:
            yield permit
        finally:
            self.taken[task] -= 1
            self.held_bytes -= permit.held_bytes
            metrics.HELD_BYTES.set(self.held_bytes)

    def grow(self, size_bytes: int) -> None:
        """Count more bytes; for ``Permit`` alone."""
        if self.held_bytes + size_bytes > self._max_bytes:
            raise MemoryFullError(
                held_bytes=self.held_bytes,
                limit_bytes=self._max_bytes,
                retry_after_seconds=self._retry_after_seconds(),
            )
        self.held_bytes += size_bytes
        metrics.HELD_BYTES.set(self.held_bytes)


class DecodeWaitEstimator:
    """Estimates how long a request waits until its image is decoded. For one event loop.

    On few cores a burst overloads the decoding threads and not the device: without this estimate
    images would be admitted and decoded, only to miss their deadline.

    Args:
        clock: returns the present moment, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting = 0
        self._last_end = 0.0
        self._interval_seconds = Ewma(MEMORY)

    @property
    def wait_seconds(self) -> float:
        """Expected wait of one more request; 0.0 before the first image was decoded."""
        return HEADROOM * self._waiting * sum(self._interval_seconds.means)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a request while its image waits and is decoded; a failure is not observed."""
        if self._waiting == 0:
            self._last_end = self._clock()
        self._waiting += 1
        try:
            yield
            now = self._clock()
            self._interval_seconds.observe(now - self._last_end)
            self._last_end = now
        finally:
            self._waiting -= 1


class Draining:
    """Whether a worker still takes requests, and how many it has to answer.

    At its end it is unready first, refuses later, and is gone when all is answered.

    Attributes:
        begun: whether load balancers should send nothing more.
    """

    def __init__(self) -> None:
        self.begun = False
        self._refuses = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request until it is answered.

        Raises:
            NotReadyError: once requests are refused.
        """
        if self._refuses:
            raise NotReadyError("The service is stopping.", retry_after_seconds=1.0)
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def run(self, delay_seconds: float, longest_seconds: float) -> None:
        """Be unready, refuse requests after the delay, and return when the others are answered.

        The worker listens all the time, so that probes and metrics are answered until the end.

        Args:
            delay_seconds: how long requests are still taken.
            longest_seconds: most that their answers take from then on.
        """
        self.begun = True
        await asyncio.sleep(delay_seconds)
        self._refuses = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), longest_seconds)
