"""A request on its way through an HTTP worker: its deadline, its client, and the threads for it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from service import tracing
from service.api.errors import DeadlineExceededError
from service.api.schemas import NOTES
from service.link.pool import OfferedModel
from service.web.admission import Permit

THREADS = 2
"""Number of decoding threads, and of rendering threads."""

NICENESS = 5
"""Niceness of those threads, added to the process's own."""

NO_DIGEST = "0"
"""X-Model-Digest of random weights, which have no file."""


ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
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

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Cancel the block at the deadline and raise DeadlineExceededError."""
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError:
            raise DeadlineExceededError(timeout_seconds=self.timeout_seconds) from None

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


def nice_threads(name: str) -> ThreadPoolExecutor:
    """Return threads whose names begin with ``name``.

    On Linux a niceness is a thread's. Where cores are few, the event loop, which rejects excess
    requests, runs before the decoding of those that were admitted.
    """
    return ThreadPoolExecutor(
        THREADS, thread_name_prefix=name, initializer=os.nice, initargs=(NICENESS,)
    )


async def in_thread(
    threads: ThreadPoolExecutor, function: Callable[..., ResultT], *arguments: Any
) -> ResultT:
    """Call a function in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await ``work``, or cancel it and raise ClientDisconnect when the connection closes."""
    working, has_left = asyncio.current_task(), False
    assert working is not None

    async def watch() -> None:
        nonlocal has_left
        await _client_gone(request)
        has_left = True
        working.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and not working.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()


async def _client_gone(request: Request) -> None:
    """Return when the client leaves; the body has been read, so nothing else can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
