"""What a trace shows of a request's time in the engine."""

from __future__ import annotations

import time

from service import tracing
from service.link.messages import Submit
from service.tracing import Part

WITHDRAWN = "withdrawn"
"""Why a request got no result whose client left while it waited; others have an error's slug."""


def trace_answered(
    submit: Submit,
    *,
    arrived: float,
    started: float,
    network_seconds: float,
    device_seconds: float,
    batch_size: int,
) -> None:
    """Record a request that was in a batch.

    Args:
        submit: the request.
        arrived: moment of its admission.
        started: moment at which the device had its batch.
        network_seconds: of the batch's time on the device, the network's.
        device_seconds: all of that time.
        batch_size: requests in the batch.
    """
    network_done, done = started + network_seconds, started + device_seconds
    tracing.record(
        "engine",
        arrived,
        time.monotonic(),
        within=submit.traceparent,
        parts=(
            Part("queue", arrived, started),
            Part("device", started, network_done),
            Part("postprocess", network_done, done),
        ),
        batch_size=batch_size,
    )


def trace_unanswered(submit: Submit, arrived: float | None, reason: str) -> None:
    """Record a request that gets no result.

    Args:
        submit: the request.
        arrived: moment of its admission; None if it was not admitted.
        reason: an error's slug, or ``WITHDRAWN``.
    """
    now = time.monotonic()
    began = now if arrived is None else arrived
    tracing.record("engine", began, now, within=submit.traceparent, error=reason)
