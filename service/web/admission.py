"""Limits of one HTTP worker: its requests and their bodies."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from model.config import Operation
from service import metrics
from service.api.errors import (
    BodyTooLargeError,
    InvalidParameterError,
    MemoryFullError,
    QueueFullError,
    UploadTimeoutError,
)

if TYPE_CHECKING:
    from starlette.requests import Request

UPLOAD_SECONDS = 10.0
"""Seconds after which an upload gives way to others that need its bytes."""

STALL_SECONDS = 10.0
"""Seconds that an upload may lag behind the least rate; without a byte it has timed out by then."""

LEAST_BYTES_PER_SECOND = 1024
"""Least rate of an upload; what it was faster before does not count."""


class Permit:
    """One request's permission to be processed, and the bytes that it holds meanwhile.

    It is an upload until ``start``: it holds the bytes that have arrived, and no place.

    Attributes:
        held_bytes: what it holds.
        places: that it takes, by operation.
        since_seconds: when it began, by the limiter's clock.
        gave_way: whether it had to end as an upload, since others needed its bytes.
        on_give_way: called then.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, operation: Operation, since_seconds: float
    ) -> None:
        self._limiter = limiter
        self.operation = operation
        self.since_seconds = since_seconds
        self.held_bytes = 0
        self.places: Mapping[Operation, int] = {}
        self.gave_way = False
        self.on_give_way: Callable[[], None] = lambda: None

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, *_: object) -> None:
        self._limiter.give_back(self)

    def hold(self, size_bytes: int) -> None:
        """Raise the bytes held to ``size_bytes``; a smaller number changes nothing.

        Raises:
            MemoryFullError: if all requests together would hold too many, or it gave way.
        """
        if self.gave_way:
            raise self._limiter.memory_full(size_bytes)
        if size_bytes > self.held_bytes:
            self._limiter.grow(self, size_bytes - self.held_bytes)

    def hold_more(self, size_bytes: int) -> None:
        """Raise the bytes held by ``size_bytes``, as ``hold`` does."""
        self.hold(self.held_bytes + size_bytes)

    def start(self) -> None:
        """Take a place, since the body has arrived.

        Raises:
            MemoryFullError: if it gave way.
            QueueFullError: if there are too many requests of the operation.
        """
        self.hold(0)
        self._limiter.start(self)

    def widen(self, operations: Sequence[Operation]) -> None:
        """Take a place for each of several operations, instead of the one for the call."""
        self._limiter.widen(self, Counter(operations))


class ConcurrencyLimiter:
    """Hands out permits, up to a number of requests for each operation and of bytes for all.

    Nothing is reserved for what a client has yet to send. An upload that has lasted for longer than
    ``UPLOAD_SECONDS`` gives way where others need its bytes.

    Args:
        max_requests: most requests of one operation whose bodies have arrived.
        max_bytes: most bytes that all requests hold together.
        retry_after_seconds: estimates when the requests whose bodies have arrived will be answered.
        clock: returns the present moment, seconds.

    Attributes:
        taken: requests whose bodies have arrived, by operation; none is zero.
        held_bytes: bytes that all requests hold together.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_bytes: int,
        retry_after_seconds: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._retry_after_seconds = retry_after_seconds
        self._clock = clock
        # A dictionary without values: a set that remembers the order.
        self._uploads: dict[Permit, None] = {}
        self.taken: Counter[Operation] = Counter()
        self.held_bytes = 0

    def admit(self, operation: Operation, *, declared_bytes: int = 0) -> Permit:
        """Admit an upload; the permit is entered, and all is returned however its block ends.

        Args:
            operation: of the request.
            declared_bytes: of the body; refused at once if there is no room for them now.
        """
        self._check_place(operation)
        if self.held_bytes + declared_bytes > self._max_bytes:
            overdue_bytes = sum(upload.held_bytes for upload in self._overdue())
            if self.held_bytes - overdue_bytes + declared_bytes > self._max_bytes:
                raise self.memory_full(declared_bytes)
        permit = Permit(self, operation, self._clock())
        self._uploads[permit] = None
        return permit

    def give_back(self, permit: Permit) -> None:
        """Take all back that a request has; for ``Permit`` alone."""
        self._uploads.pop(permit, None)
        self._take(permit, {})
        self._count(permit, -permit.held_bytes)

    def start(self, permit: Permit) -> None:
        """Turn an upload into a request; for ``Permit`` alone."""
        self.widen(permit, {permit.operation: 1})
        self._uploads.pop(permit, None)

    def widen(self, permit: Permit, places: Mapping[Operation, int]) -> None:
        """Give a request other places; for ``Permit`` alone."""
        for operation, count in places.items():
            if count > self._max_requests:
                raise InvalidParameterError(
                    f"The call has {count} images or tiles; there are {self._max_requests} places "
                    "(OVERLOCK_MAX_QUEUE_REQUESTS for each engine)."
                )
            self._check_place(operation, count - permit.places.get(operation, 0))
        self._take(permit, places)

    def grow(self, permit: Permit, size_bytes: int) -> None:
        """Count more bytes; for ``Permit`` alone."""
        is_short = self.held_bytes + size_bytes > self._max_bytes
        for upload in self._overdue() if is_short else ():
            if self.held_bytes + size_bytes <= self._max_bytes:
                break
            if upload is not permit:
                del self._uploads[upload]
                self._count(upload, -upload.held_bytes)
                upload.gave_way = True
                upload.on_give_way()
        if self.held_bytes + size_bytes > self._max_bytes:
            raise self.memory_full(size_bytes)
        self._count(permit, size_bytes)

    def memory_full(self, size_bytes: int) -> MemoryFullError:
        """Return the error of a request for whose bytes there is no room."""
        missing_bytes = self.held_bytes + size_bytes - self._max_bytes
        retry_after_seconds = 0.0
        for upload in self._uploads:
            if missing_bytes <= 0:
                break
            missing_bytes -= upload.held_bytes
            retry_after_seconds = upload.since_seconds + UPLOAD_SECONDS - self._clock()
        if missing_bytes > 0:
            # Uploads that give way are not enough.
            retry_after_seconds = max(retry_after_seconds, self._retry_after_seconds())
        return MemoryFullError(
            held_bytes=self.held_bytes,
            limit_bytes=self._max_bytes,
            retry_after_seconds=max(retry_after_seconds, 0.0),
        )

    def _take(self, permit: Permit, places: Mapping[Operation, int]) -> None:
        for operation, count in permit.places.items():
            self.taken[operation] -= count
            if not self.taken[operation]:
                del self.taken[operation]
        for operation, count in places.items():
            self.taken[operation] += count
        permit.places = places

    def _check_place(self, operation: Operation, count: int = 1) -> None:
        if count > 0 and self.taken[operation] + count > self._max_requests:
            raise QueueFullError(
                waiting=self.taken[operation],
                limit=self._max_requests,
                retry_after_seconds=self._retry_after_seconds(),
            )

    def _overdue(self) -> list[Permit]:
        """Return the uploads that have lasted too long, the longest first."""
        latest_seconds = self._clock() - UPLOAD_SECONDS
        return list(takewhile(lambda each: each.since_seconds <= latest_seconds, self._uploads))

    def _count(self, permit: Permit, size_bytes: int) -> None:
        permit.held_bytes += size_bytes
        self.held_bytes += size_bytes
        metrics.HELD_BYTES.set(self.held_bytes)


async def read_body(
    request: Request, *, limit_bytes: int, deadline: float, permit: Permit
) -> bytes:
    """Receive the body.

    Args:
        request: with its body unread.
        limit_bytes: largest body.
        deadline: monotonic moment by which it has to be complete.
        permit: accounts for the bytes held in memory, as they arrive.

    Raises:
        BodyTooLargeError: if the bytes received exceed the limit.
        MemoryFullError: if all requests together hold too many bytes.
        UploadTimeoutError: if the body is not complete in time, stalls, or is too slow.
        ClientDisconnect: if the client left.
    """
    loop = asyncio.get_running_loop()
    started, received, chunks = loop.time(), 0, []
    ends_at = started + deadline - time.monotonic()
    too_slow_at = started + STALL_SECONDS
    try:
        async with asyncio.timeout_at(min(ends_at, too_slow_at)) as timeout:

            def stop() -> None:
                if not timeout.expired():
                    timeout.reschedule(loop.time())

            permit.on_give_way = stop
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                received += len(chunk)
                if received > limit_bytes:
                    raise BodyTooLargeError(limit_bytes=limit_bytes)
                permit.hold(received)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
                now = loop.time()
                earned_seconds = len(chunk) / LEAST_BYTES_PER_SECOND
                too_slow_at = min(too_slow_at + earned_seconds, now + STALL_SECONDS)
                timeout.reschedule(min(ends_at, too_slow_at))
    except TimeoutError:
        permit.hold(0)  # raises if it gave way
        raise UploadTimeoutError(
            limit_seconds=loop.time() - started,
            received_bytes=received,
            least_bytes_per_second=LEAST_BYTES_PER_SECOND if too_slow_at < ends_at else None,
        ) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def declared_length(request: Request, *, limit_bytes: int) -> int:
    """Return a body's declared length, bytes; 0 if none is declared.

    Raises:
        BodyTooLargeError: if it exceeds the limit.
    """
    declared = request.headers.get("content-length", "")
    declared_bytes = int(declared) if declared.isdecimal() else 0
    if declared_bytes > limit_bytes:
        raise BodyTooLargeError(limit_bytes=limit_bytes, declared_bytes=declared_bytes)
    return declared_bytes
