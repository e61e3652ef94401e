"""The id of a request, its counts, and its line in the log, however it came."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable, Mapping

from service import metrics, tracing

VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

VALID_ADDRESS = re.compile(r"[0-9A-Fa-f.:%\w]{1,64}", re.ASCII)
"""An IP address as a socket has it, or as a trusted proxy has written it."""

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client left, in metrics and logs only."""

_NEXT_PLACES = {"queue": "render", "decode": "engine", "read": "decode"}
"""A request's place by the last stage that it has finished, the latest stage first."""

PLACES = ("read", *_NEXT_PLACES.values())
"""All places of a request at which its client may leave."""

logger = logging.getLogger("service.access")


def request_id_of(candidates: Iterable[str]) -> str:
    """Return the caller's id, if a valid one is among those it sent, else a new one."""
    return next(filter(VALID_REQUEST_ID.fullmatch, candidates), None) or uuid.uuid4().hex


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
