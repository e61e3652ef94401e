"""The retry policy of both clients, without input or output.

It is a generator that yields the next step and receives its outcome, so that the synchronous and
the asynchronous client differ only in how they send and wait.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httpx

from service.api.queries import MAX_TIMEOUT_SECONDS
from service.client.errors import ClientError, TooLateError, UnreachableError
from service.client.requests import Call, Parameter, Reply, error_of

RETRYABLE_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses of requests that the service did not process, and may process later."""

SERVICE_SHARE = 0.9
"""Part of the remaining time that the service gets as its timeout, so that its error arrives."""

RETRYABLE_ERRORS = (
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.ConnectTimeout,
)
"""Errors after which another connection may succeed. Requests may be repeated: they change nothing
at the service."""

FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Send:
    """Step: send the request. Its outcome is the reply, or httpx's error.

    Attributes:
        params: of the query.
        timeout_seconds: for the complete reply.
    """

    params: dict[str, Parameter]
    timeout_seconds: float


@dataclass(frozen=True)
class Pause:
    """Step: wait. It has no outcome."""

    seconds: float


Steps = Generator[Send | Pause, Reply | httpx.RequestError | None, Result]


def steps_with_retries(
    call: Call[Result],
    *,
    url: str,
    timeout_seconds: float,
    max_attempts: int,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[Result]:
    """Yield the steps of a call, with retries, and return its result.

    Args:
        call: the request.
        url: of the service, for messages.
        timeout_seconds: for all attempts and the waits between them.
        max_attempts: at least one.
        clock: tells seconds.

    Raises:
        ProblemError: if the service refuses, and a retry cannot help, or not in time.
        UnexpectedAnswerError: if another server answers.
        UnreachableError: if the last connection fails too.
        TooLateError: if the timeout passes.
    """
    deadline = clock() + timeout_seconds
    failures = 0
    while True:
        left_seconds = deadline - clock()
        if left_seconds <= 0:
            raise _too_late(url, timeout_seconds)
        outcome = yield Send(_params(call, left_seconds), left_seconds)
        failures += 1
        if isinstance(outcome, Reply):
            if outcome.status not in RETRYABLE_STATUSES:
                return call.result(outcome)
            error: ClientError = error_of(outcome)
            stated = outcome.retry_after_seconds
            wait_seconds = backoff_seconds(failures) if stated is None else stated
        else:
            assert outcome is not None, "every Send has an outcome"
            error = _failure(outcome, url, timeout_seconds)
            if not isinstance(outcome, RETRYABLE_ERRORS):
                raise error from outcome
            error.__cause__ = outcome
            wait_seconds = backoff_seconds(failures)
        # Without waiting for a retry that cannot be in time.
        if failures >= max_attempts or clock() + wait_seconds >= deadline:
            raise error
        yield Pause(wait_seconds)


def _params(call: Call[Result], left_seconds: float) -> dict[str, Parameter]:
    params = {name: value for name, value in call.query.items() if value is not None}
    if call.image is not None:
        share = max(SERVICE_SHARE * left_seconds, 0.001)
        params["timeout"] = round(min(share, MAX_TIMEOUT_SECONDS), 3)
    return params


def _failure(outcome: httpx.RequestError, url: str, timeout_seconds: float) -> ClientError:
    if isinstance(outcome, httpx.TimeoutException) and not isinstance(
        outcome, httpx.ConnectTimeout
    ):
        return _too_late(url, timeout_seconds)
    return UnreachableError(f"{url} cannot be reached: {str(outcome) or type(outcome).__name__}.")


def _too_late(url: str, timeout_seconds: float) -> TooLateError:
    return TooLateError(f"{url} did not answer within {timeout_seconds:g} seconds.")


def backoff_seconds(failures: int) -> float:
    """Return an exponential backoff with jitter of up to half.

    Clients that failed together do not retry together.

    Args:
        failures: so far, from 1.
    """
    longest = min(FIRST_WAIT_SECONDS * 2.0 ** (failures - 1), LONGEST_WAIT_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
