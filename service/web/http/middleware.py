"""Middleware around every request, its id, counts and line in the log; and the end of all requests.

Plain ASGI: Starlette's base class for middleware would hide a client's disconnect from the routes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from service import metrics, tracing
from service.api.errors import NotReadyError, ServiceError
from service.logs import ACCESS
from service.web.http.lean_route import LeanRoute
from service.web.http.problems import problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ID_HEADER = b"x-request-id"

VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

VALID_ADDRESS = re.compile(r"[0-9A-Fa-f.:%\w]{1,64}", re.ASCII)
"""An IP address as a socket has it, or as a trusted proxy has written it."""

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client left, in metrics and logs only."""

_NEXT_PLACES = {"queue": "render", "decode": "engine", "read": "decode"}
"""A request's place by the last stage that it has finished, the latest stage first."""

PLACES = ("read", *_NEXT_PLACES.values())
"""All places of a request at which its client may leave."""

LOGGED = re.compile(r"/v1/|/v2(?!/health/)(/|$)|unmatched$")
"""Route templates whose requests are logged."""

# Seeded by the system for each process. An id tells requests apart and is no secret, so that the
# system need not be called for each.
_request_ids = random.Random()  # noqa: S311

logger = logging.getLogger(ACCESS)


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
        routes: by their paths; of them a request with a known query takes the short way.
    """

    def __init__(
        self, app: ASGIApp, under_way: RequestsUnderWay, routes: Mapping[str, LeanRoute]
    ) -> None:
        self._app = app
        self._under_way = under_way
        self._routes = routes

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
                timing = server_timing({**stages, "total": time.perf_counter() - started})
                message["headers"] = [
                    *message.get("headers", ()),
                    (ID_HEADER, request_id.encode("ascii")),
                    (b"server-timing", timing.encode("ascii")),
                ]
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
                route = self._routes.get(scope["path"])
                query = None if route is None else route.known_query(scope)
                if route is None or query is None:
                    await self._app(scope, receive, send_with_id)
                else:
                    await route.answer(scope, receive, send_with_id, query)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
            count_cancelled(stages)
        except ServiceError as error:
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


def request_id_of(candidates: Iterable[str]) -> str:
    """Return the caller's id, if a valid one is among those it sent, else a new one."""
    given = next(filter(VALID_REQUEST_ID.fullmatch, candidates), None)
    return given or f"{_request_ids.getrandbits(128):032x}"


def server_timing(stages: Mapping[str, float]) -> str:
    """Return the value of a Server-Timing header, in milliseconds as the standard requires."""
    return ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in stages.items())


def count_cancelled(stages: Mapping[str, float]) -> None:
    """Count a request whose client left during the stage after the last one that was finished."""
    place = next((place for done, place in _NEXT_PLACES.items() if done in stages), "read")
    metrics.CANCELLED.labels(place).inc()
    tracing.describe(cancelled_in=place)


def count_request(route: str, status: int, seconds: float) -> None:
    """Count a request that has ended.

    Args:
        route: template of its path: callers choose paths, and each would become a time series.
        status: of the answer.
        seconds: that it took.
    """
    metrics.REQUESTS.labels(route, status).inc()
    metrics.REQUEST_SECONDS.labels(route).observe(seconds)


def log_request(
    method: str,
    path: str,
    *,
    status: int,
    seconds: float,
    client: str,
    request_id: str,
    stages: Mapping[str, float],
    model: str | None,
    key: str | None,
) -> None:
    """Write a line about a request that has ended.

    Args:
        method: of HTTP, or gRPC.
        path: in ASCII, not decoded: it could then hold line breaks and control codes.
        status: of the answer.
        seconds: that it took.
        client: its address.
        request_id: returned by ``request_id_of``.
        stages: seconds of each of its stages.
        model: that was asked, if one was found.
        key: name of the caller's key, if it has one.
    """
    trace_id = tracing.trace_id()
    logger.info(
        "%s %s",
        method,
        path,
        extra={
            "status": status,
            "seconds": round(seconds, 4),
            **({} if model is None else {"model": model}),
            **{f"{stage}_seconds": round(took, 4) for stage, took in stages.items()},
            "client": client if VALID_ADDRESS.fullmatch(client) else "unknown",
            "request_id": request_id,
            **({} if trace_id is None else {"trace_id": trace_id}),
            **({} if key is None else {"key": key}),
        },
    )
