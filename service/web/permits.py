"""Bounds what an HTTP worker works on at a time, by count and by bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from model.config import Task
from service import metrics
from service.errors import MemoryFullError, QueueFullError


class Permit:
    """One request's leave to be worked on, and the bytes that it holds meanwhile."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Hold so many bytes, if they are more than what is held already.

        Raises:
            MemoryFullError: if all requests together would hold too many.
        """
        if size_bytes > self.held_bytes:
            self._permits.grow(size_bytes - self.held_bytes)
            self.held_bytes = size_bytes


class Permits:
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
