"""Which attempts are made at a request, and what becomes of each: the same for both clients.

A generator that says what to do next and is told what came of it, so that the sync and the async
client differ only in how they wait.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import httpx

from service.api.schemas import MAX_TIMEOUT_SECONDS
from service.client.errors import ClientError, TooLateError, UnreachableError
from service.client.requests import Call, Reply, error_of

RETRYABLE_STATUSES = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses that say: not now. Nothing was begun, or it can be begun again."""

SERVICE_SHARE = 0.9
"""Of the time left, what the service is given: so that its own words arrive in time."""

RETRYABLE_ERRORS = (
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.ConnectTimeout,
)
"""Errors after which the next connection may fare better. Asking twice does no harm: an answer
changes nothing at the service."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Send:
    """Send the request and say what came: the reply, or httpx's error.

    Attributes:
        params: of the query.
        timeout_seconds: after which nobody waits for the reply's end.
    """

    params: dict[str, str | int | float | bool]
    timeout_seconds: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Attempts = Generator[Send | Pause, Reply | httpx.RequestError | None, Result]


def attempts(
    call: Call[Result],
    *,
    url: str,
    timeout_seconds: float,
    max_attempts: int,
    clock: Callable[[], float] = time.monotonic,
) -> Attempts[Result]:
    """Go on until there is a result, or no use in going on.

    Args:
        call: what is wanted.
        url: of the service, for messages.
        timeout_seconds: for all attempts and the waits between them.
        max_attempts: at least one.
        clock: tells seconds.

    Raises:
        ProblemError: if the service refuses, and a wait helps no more or not in time.
        UnexpectedAnswerError: if something else answers.
        UnreachableError: if connections fail to the last.
        TooLateError: if the time is over.
    """
    deadline = clock() + timeout_seconds
    failures = 0
    while True:
        left_seconds = deadline - clock()
        if left_seconds <= 0:
            raise _too_late(url, timeout_seconds)
        came = yield Send(_params(call, left_seconds), left_seconds)
        failures += 1
        if isinstance(came, Reply):
            if came.status not in RETRYABLE_STATUSES:
                return call.result(came)
            error: ClientError = error_of(came)
            stated = came.retry_after_seconds
            wait_seconds = backoff_seconds(failures) if stated is None else stated
        else:
            assert came is not None, "a Send is answered"
            error = _failure(came, url, timeout_seconds)
            if not isinstance(came, RETRYABLE_ERRORS):
                raise error from came
            error.__cause__ = came
            wait_seconds = backoff_seconds(failures)
        # What cannot be in time is not waited for: the caller can use the time better.
        if failures >= max_attempts or clock() + wait_seconds >= deadline:
            raise error
        yield Pause(wait_seconds)


def _params(call: Call[Result], left_seconds: float) -> dict[str, str | int | float | bool]:
    params = {name: value for name, value in call.query.items() if value is not None}
    if call.image is not None:
        share = max(SERVICE_SHARE * left_seconds, 0.001)
        params["timeout"] = round(min(share, MAX_TIMEOUT_SECONDS), 3)
    return params


def _failure(came: httpx.RequestError, url: str, timeout_seconds: float) -> ClientError:
    if isinstance(came, httpx.TimeoutException) and not isinstance(came, httpx.ConnectTimeout):
        return _too_late(url, timeout_seconds)
    return UnreachableError(f"{url} cannot be reached: {str(came) or type(came).__name__}.")


def _too_late(url: str, timeout_seconds: float) -> TooLateError:
    return TooLateError(f"{url} did not answer within {timeout_seconds:g} seconds.")


FIRST_WAIT_SECONDS = 0.25


LONGEST_WAIT_SECONDS = 10.0


def backoff_seconds(failures: int) -> float:
    """Return a wait that doubles with every failure, the half of it left to chance.

    Clients that failed together do not come again together.

    Args:
        failures: so far, from 1.
    """
    whole = min(FIRST_WAIT_SECONDS * 2.0 ** (failures - 1), LONGEST_WAIT_SECONDS)
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains by guessing it
