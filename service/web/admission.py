"""Bounds what an HTTP worker works on at a time, by count and by bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from model.config import Task
from service import metrics
from service.api.errors import MemoryFullError, QueueFullError


class Permit:
    """One request's leave to be worked on, and the bytes that it holds meanwhile."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Hold so many bytes, if they are more than what is held already.

        Raises:
            MemoryFullError: if all requests together would hold too many.
        """
        if size_bytes > self.held_bytes:
            self._limiter.grow(size_bytes - self.held_bytes)
            self.held_bytes = size_bytes


class ConcurrencyLimiter:
    """Hands out permits.

    Args:
        max_requests: most requests of one task.
        max_bytes: most bytes that all requests hold together.
        retry_after_seconds: tells when there is likely to be room again.
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
        """Let a request be worked on while the block runs, however it ends.

        Raises:
            QueueFullError: if there are too many of its task.
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


MEMORY = 0.9
"""Weight that the past keeps when another image is done: about the last ten count."""


HEADROOM = 1.25
"""How much longer than expected the line may take: whoever is let in shall be in time."""


class DecodeWaitEstimator:
    """Counts who is in line and learns how fast it moves. For one event loop.

    Args:
        clock: returns the present moment, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = 0
        self._last_move = 0.0
        self._seconds_each: float | None = None

    @property
    def wait_seconds(self) -> float:
        """How long one more request would be in line; 0.0 while nothing was learnt."""
        return HEADROOM * self._length * (self._seconds_each or 0.0)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Be in line; whoever leaves before the end of it counts no more, and teaches nothing."""
        if self._length == 0:
            self._last_move = self._clock()
        self._length += 1
        try:
            yield
            self._learn()
        finally:
            self._length -= 1

    def _learn(self) -> None:
        now = self._clock()
        seconds, self._last_move = now - self._last_move, now
        before = self._seconds_each
        self._seconds_each = seconds if before is None else MEMORY * before + (1 - MEMORY) * seconds
