"""Middleware around every request, which logs and counts it; and the end of all requests.

Plain ASGI: Starlette's base class for middleware would hide a client's disconnect from the routes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect

from service import metrics, tracing
from service.api.errors import NotReadyError, ServiceError
from service.web.access_log import (
    CLIENT_CLOSED_REQUEST,
    count_cancelled,
    count_request,
    log_request,
    request_id_of,
    server_timing,
)
from service.web.http.problems import problem_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ID_HEADER = b"x-request-id"

LOGGED = re.compile(r"/v1/|/v2(?!/health/)(/|$)|unmatched$")
"""Route templates whose requests are logged."""

T = TypeVar("T")

logger = logging.getLogger("service.access")


class RequestsUnderWay:
    """The tasks that work on requests, which end at once when the service has died around them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._abandoned = False

    def abandon(self) -> None:
        """End all of them, and every later one, with NotReadyError."""
        self._abandoned = True
        for task in self._tasks:
            task.cancel()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count the current task while the block runs.

        Raises:
            NotReadyError: once they are abandoned.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._abandoned:
            raise _gone()
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._abandoned and not task.uncancel():
                raise _gone() from None
            raise
        finally:
            self._tasks.discard(task)


def _gone() -> NotReadyError:
    return NotReadyError("The service has ended before the answer.", retry_after_seconds=1.0)


class Draining:
    """Whether a worker still takes requests, and how many it has to answer.

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


class RequestMiddleware:
    """Middleware around the whole application.

    Args:
        app: the application inside.
        under_way: counts its tasks.
    """

    def __init__(self, app: ASGIApp, under_way: RequestsUnderWay) -> None:
        self._app = app
        self._under_way = under_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = scope["headers"]
        request_id = request_id_of(v.decode("latin-1") for name, v in headers if name == ID_HEADER)
        # Seconds of each stage, filled in by the routes.
        stages: dict[str, float] = {}
        scope.setdefault("state", {}).update(request_id=request_id, stages=stages)
        tracing.describe(request_id=request_id)
        status, method = 0, scope["method"]
        if method == "HEAD":
            # Answered wherever GET is, with the same headers.
            scope["method"] = "GET"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                total = {"total": time.perf_counter() - started}
                headers["Server-Timing"] = server_timing(stages | total)
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        async def answer(error: ServiceError) -> None:
            if status == 0:
                response = problem_response(error, path=scope["path"], request_id=request_id)
                await response(scope, receive, send_with_id)

        metrics.IN_FLIGHT.inc()
        try:
            with self._under_way.entered():
                await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
            count_cancelled(stages)
        except NotReadyError as error:
            await answer(error)
        except Exception:
            # The outermost place for any error: the caller gets a problem instead of nothing.
            logger.exception("A request failed unexpectedly.", extra={"request_id": request_id})
            await answer(ServiceError("The failure was logged under the request id."))
        finally:
            metrics.IN_FLIGHT.dec()
            _record(scope, method, status, time.perf_counter() - started)


def _record(scope: Scope, method: str, status: int, seconds: float) -> None:
    template = getattr(scope.get("route"), "path", "unmatched")
    count_request(template, status, seconds)
    # Probes and scrapes come every few seconds and would bury the rest.
    if LOGGED.match(template):
        state = scope["state"]
        log_request(
            method,
            scope["raw_path"].decode("ascii", "replace"),
            status=status,
            seconds=seconds,
            # uvicorn has taken it from trusted proxies' X-Forwarded-For.
            client=(scope.get("client") or ("", 0))[0],
            request_id=state["request_id"],
            stages=state["stages"],
            model=state.get("model"),
            key=state.get("key_name"),
        )


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
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
