from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from service.client.errors import (
    ProblemError,
    TooLateError,
    UnexpectedAnswerError,
    UnreachableError,
)
from service.client.requests import Call, Reply, classify, parse_retry_after
from service.client.retries import (
    LONGEST_WAIT_SECONDS,
    Pause,
    Send,
    backoff_seconds,
    steps_with_retries,
)

URL = "http://service"
CALL: Call[str] = Call("/v1/classify", lambda reply: reply.body.decode(), image=b"an image")
FULL = (
    b'{"type": "urn:overlock:problem:queue-full", "title": "Too many requests are waiting", '
    b'"status": 429, "detail": "9 requests are waiting; the limit is 8.", '
    b'"instance": "/v1/classify", "request_id": "r"}'
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return Reply(f"{URL}/v1/classify", status, httpx.Headers(headers), body)


def full(retry_after: str | None = None) -> Reply:
    return reply(429, FULL, **({} if retry_after is None else {"Retry-After": retry_after}))


def run(
    came: list[Reply | httpx.RequestError],
    *,
    timeout_seconds: float = 60.0,
    max_attempts: int = 5,
    takes_seconds: float = 0.0,
) -> tuple[Callable[[], str], list[Send | Pause]]:
    """Return how to get the result, and the steps that were taken for it."""
    clock, steps = Clock(), []

    def result() -> str:
        waiting = iter(came)
        going = steps_with_retries(
            CALL, url=URL, timeout_seconds=timeout_seconds, max_attempts=max_attempts, clock=clock
        )
        answer: Reply | httpx.RequestError | None = None
        while True:
            try:
                step = going.send(answer)
            except StopIteration as end:
                found: str = end.value
                return found
            steps.append(step)
            if isinstance(step, Pause):
                clock.now += step.seconds
                answer = None
            else:
                clock.now += takes_seconds
                answer = next(waiting)

    return result, steps


def pauses(steps: list[Send | Pause]) -> list[float]:
    return [step.seconds for step in steps if isinstance(step, Pause)]


def test_the_first_answer_is_the_result() -> None:
    result, steps = run([reply(200, b"star")])
    assert result() == "star"
    assert len(steps) == 1


def test_the_service_is_told_most_of_the_time_that_is_left() -> None:
    result, steps = run([full("10"), reply(200)], timeout_seconds=40, takes_seconds=5.0)
    result()
    sent = [step for step in steps if isinstance(step, Send)]
    assert [step.timeout_seconds for step in sent] == [40.0, 25.0]
    assert [step.params["timeout"] for step in sent] == [36.0, 22.5]


def test_what_waits_longer_than_the_service_lets_is_told_its_limit() -> None:
    result, steps = run([reply(200)], timeout_seconds=10_000)
    result()
    assert steps == [Send({"timeout": 600.0}, 10_000)]


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_tried_again_when_it_says(status: int) -> None:
    result, steps = run([reply(status, b"", **{"Retry-After": "7"}), reply(200, b"star")])
    assert result() == "star"
    assert pauses(steps) == [7.0]


def test_a_refusal_that_names_no_time_is_tried_again_after_growing_waits() -> None:
    result, steps = run([full(), full("soon"), full(), reply(200, b"star")])
    assert result() == "star"
    first, second, third = pauses(steps)
    assert 0.125 <= first <= 0.25 <= second <= 0.5 <= third <= 1.0


def test_attempts_are_bounded() -> None:
    result, steps = run([full("1")] * 9, max_attempts=3)
    with pytest.raises(ProblemError, match="9 requests are waiting; the limit is 8") as raised:
        result()
    assert raised.value.problem.status == 429
    assert raised.value.retry_after_seconds == 1.0
    assert pauses(steps) == [1.0, 1.0]


def test_a_wait_beyond_the_timeout_is_not_begun() -> None:
    result, steps = run([full("61")], timeout_seconds=60)
    with pytest.raises(ProblemError):
        result()
    assert pauses(steps) == []


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422, 500, 502, 504])
def test_what_another_attempt_does_not_change_is_not_tried_again(status: int) -> None:
    result, steps = run([reply(status, FULL)])
    with pytest.raises(ProblemError):
        result()
    assert len(steps) == 1


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("no answer"),
        httpx.ReadError(""),
        httpx.WriteError(""),
        httpx.RemoteProtocolError("hung up"),
    ],
)
def test_a_broken_connection_is_tried_again(error: httpx.RequestError) -> None:
    result, steps = run([error, reply(200, b"star")])
    assert result() == "star"
    assert len(pauses(steps)) == 1


def test_a_service_that_is_never_there_is_unreachable() -> None:
    result, _ = run([httpx.ConnectError("refused")] * 2, max_attempts=2)
    with pytest.raises(UnreachableError, match="http://service cannot be reached: refused"):
        result()


@pytest.mark.parametrize("error", [httpx.LocalProtocolError("bad"), httpx.DecodingError("bad")])
def test_an_error_of_our_own_is_not_tried_again(error: httpx.RequestError) -> None:
    result, steps = run([error])
    with pytest.raises(UnreachableError):
        result()
    assert len(steps) == 1


def test_no_answer_in_time_is_too_late() -> None:
    result, _ = run([httpx.ReadTimeout("")], timeout_seconds=1.5)
    with pytest.raises(TooLateError, match=r"did not answer within 1\.5 seconds"):
        result()


def test_an_attempt_is_not_begun_when_the_time_is_over() -> None:
    result, steps = run([full("0"), reply(200)], timeout_seconds=1.0, takes_seconds=1.5)
    with pytest.raises(ProblemError):
        result()
    assert len(steps) == 1


def test_another_server_is_told_from_the_service() -> None:
    result, _ = run([reply(502, b"<html>\n  bad gateway")])
    with pytest.raises(UnexpectedAnswerError, match=r"status 502.*<html> bad gateway"):
        result()


def test_a_result_that_is_none_is_unexpected() -> None:
    call = classify(b"an image", None, None)
    with pytest.raises(UnexpectedAnswerError, match="status 200"):
        call.result(reply(200, b'{"hello": "world"}'))


def test_a_date_says_when_to_retry() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(moment) == pytest.approx(90, abs=2)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5 s"])
def test_a_header_without_sense_says_nothing(header: str | None) -> None:
    assert parse_retry_after(header) is None


def test_waits_grow_to_a_bound() -> None:
    assert all(backoff_seconds(failures) <= LONGEST_WAIT_SECONDS for failures in range(1, 40))
    assert backoff_seconds(39) >= LONGEST_WAIT_SECONDS / 2
