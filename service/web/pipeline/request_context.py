"""A request on its way through an HTTP worker: its deadline, its client, its wait for decoding."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from service import tracing
from service.api.errors import DeadlineExceededError
from service.api.schemas import NOTES
from service.ewma import Ewma
from service.link.pool import OfferedModel
from service.web.admission import Permit
from service.web.http.exchange import CLIENT_GONE, Watch

MEMORY = 0.9
"""Weight of past decodings when another one ends: about the last ten count."""

HEADROOM = 2.0
"""Factor on the expected wait, so that an admitted request meets its deadline although refusing
others slows decoding down. Half the wait keeps the threads busy, too."""

NO_DIGEST = "0"
"""X-Model-Digest of random weights, which have no file."""


ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class RequestContext:
    """A request that was admitted, or one image of it.

    Attributes:
        model: the model that answers it.
        deadline: monotonic moment after which the caller no longer waits.
        timeout_seconds: the caller's timeout, or the default one.
        permit: counts its bytes.
        stages: seconds that each stage took, filled on the way.
        body: the raw bytes of the request's body, once it has arrived.
        content_type: the request's Content-Type header.
        coding: the body's content coding; None if it comes as it is.
        cancelled: set when the caller no longer waits for the response.
    """

    model: OfferedModel
    deadline: float
    timeout_seconds: float
    permit: Permit
    stages: dict[str, float]
    body: bytes = b""
    content_type: str | None = None
    coding: str | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    async def in_time(self, future: asyncio.Future[ResultT]) -> ResultT:
        """Await a future; from the deadline on it fails with DeadlineExceededError."""
        left_seconds = self.deadline - time.monotonic()
        expiry = asyncio.get_running_loop().call_later(left_seconds, self._expire, future)
        try:
            return await future
        finally:
            expiry.cancel()

    def _expire(self, future: asyncio.Future[ResultT]) -> None:
        if not future.done():
            future.set_exception(DeadlineExceededError(timeout_seconds=self.timeout_seconds))

    @property
    def arrived(self) -> float:
        """Monotonic moment at which it was admitted."""
        return self.deadline - self.timeout_seconds

    def with_timeout(self, seconds: float) -> RequestContext:
        """Return the request with another timeout, counted from its arrival."""
        return replace(self, deadline=self.arrived + seconds, timeout_seconds=seconds)

    @property
    def model_headers(self) -> dict[str, str]:
        """Headers of the answer that say which weights gave it."""
        model = self.model.info
        headers = {"X-Model-Digest": model.weights_sha256 or NO_DIGEST}
        if model.weights in NOTES:
            headers["X-Model-Weights"] = model.weights
        return headers

    def record(self, stage: str, seconds: float) -> None:
        """Record a stage that has just ended."""
        self.stages[stage] = seconds
        now = time.monotonic()
        tracing.record(stage, now - seconds, now)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await ``work``, or cancel it and raise ClientDisconnect when the connection closes."""
    working, has_left = asyncio.current_task(), False
    assert working is not None

    def leave() -> None:
        nonlocal has_left
        has_left = True
        working.cancel()

    stop_watching = _watch_client(request, leave)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and not working.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        stop_watching()


def _watch_client(request: Request, leave: Callable[[], None]) -> Callable[[], object]:
    """Call ``leave`` when the client leaves, until what is returned is called.

    The body has been read, so nothing else can arrive. Our own connections tell; for another
    server's a task has to wait.
    """
    watch: Watch | None = request.scope.get("extensions", {}).get(CLIENT_GONE)
    if watch is not None:
        watch(leave)
        return partial(watch, None)

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        leave()

    return asyncio.create_task(wait()).cancel


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
