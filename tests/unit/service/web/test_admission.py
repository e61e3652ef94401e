from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from model.config import Operation, Task
from service.api.errors import MemoryFullError, QueueFullError
from service.web.admission import (
    UPLOAD_SECONDS,
    ConcurrencyLimiter,
    Permit,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(
        max_requests=2, max_bytes=100, retry_after_seconds=lambda: 7.5, clock=clock
    )


@contextmanager
def request(limiter: ConcurrencyLimiter, task: Task = Task.CLASSIFY) -> Iterator[Permit]:
    """A request whose body has arrived."""
    with limiter.admit(Operation("net", task)) as permit:
        permit.start()
        yield permit


def test_no_more_requests_of_a_task_are_let_in_than_allowed(limiter: ConcurrencyLimiter) -> None:
    with request(limiter), request(limiter):
        with (
            pytest.raises(QueueFullError) as raised,
            limiter.admit(Operation("net", Task.CLASSIFY)),
        ):
            pass
        with request(limiter, Task.SEGMENT):
            assert limiter.taken == {
                Operation("net", Task.CLASSIFY): 2,
                Operation("net", Task.SEGMENT): 1,
            }
    assert raised.value.retry_after_seconds == 7.5
    assert not limiter.taken


def test_an_upload_has_no_place_until_its_body_has_arrived(limiter: ConcurrencyLimiter) -> None:
    with ExitStack() as uploads:
        slow = [
            uploads.enter_context(limiter.admit(Operation("net", Task.CLASSIFY))) for _ in range(50)
        ]
        slow[0].start()
        slow[1].start()
        with pytest.raises(QueueFullError):
            slow[2].start()
    assert limiter.taken[Operation("net", Task.CLASSIFY)] == 0


def test_bytes_are_counted_over_all_tasks_and_given_back(limiter: ConcurrencyLimiter) -> None:
    with request(limiter) as first:
        first.hold(60)
        with request(limiter, Task.SEGMENT) as second:
            second.hold(40)
            with pytest.raises(MemoryFullError) as raised:
                second.hold(41)
        assert limiter.held_bytes == 60
    assert limiter.held_bytes == 0
    assert "100 bytes" in raised.value.detail
    assert raised.value.retry_after_seconds == 7.5


def test_declared_bytes_are_looked_at_and_not_reserved(limiter: ConcurrencyLimiter) -> None:
    with limiter.admit(Operation("net", Task.CLASSIFY), declared_bytes=90) as first:
        assert limiter.held_bytes == 0
        first.hold(20)
        with (
            pytest.raises(MemoryFullError),
            limiter.admit(Operation("net", Task.CLASSIFY), declared_bytes=90),
        ):
            pass


def test_an_old_upload_gives_way_to_another_that_needs_its_bytes(
    limiter: ConcurrencyLimiter, clock: Clock
) -> None:
    told: list[str] = []
    with (
        limiter.admit(Operation("net", Task.CLASSIFY)) as old,
        limiter.admit(Operation("net", Task.CLASSIFY)) as younger,
        request(limiter) as arrived,
    ):
        arrived.hold(20)
        old.hold(30)
        younger.hold(30)
        old.on_give_way = lambda: told.append("old")
        younger.on_give_way = lambda: told.append("younger")
        clock.now += UPLOAD_SECONDS
        with limiter.admit(Operation("net", Task.CLASSIFY), declared_bytes=50) as newest:
            newest.hold(50)
            assert told == ["old"]
            assert limiter.held_bytes == 100
            with pytest.raises(MemoryFullError):
                old.hold(31)
            with pytest.raises(MemoryFullError):
                old.start()
            younger.start()
    assert limiter.held_bytes == 0
    assert limiter.taken[Operation("net", Task.CLASSIFY)] == 0


def test_retry_after_says_when_uploads_give_way(limiter: ConcurrencyLimiter, clock: Clock) -> None:
    with (
        limiter.admit(Operation("net", Task.CLASSIFY)) as first,
        limiter.admit(Operation("net", Task.CLASSIFY)) as second,
    ):
        first.hold(50)
        clock.now += 4
        second.hold(50)
        with pytest.raises(MemoryFullError) as raised:
            second.hold(60)
        assert raised.value.retry_after_seconds == pytest.approx(UPLOAD_SECONDS - 4)
        clock.now += UPLOAD_SECONDS - 4
        second.hold(60)


def test_an_old_upload_that_nobody_needs_to_give_way_is_completed(
    limiter: ConcurrencyLimiter, clock: Clock
) -> None:
    with limiter.admit(Operation("net", Task.CLASSIFY)) as slow:
        slow.hold(50)
        clock.now += 100 * UPLOAD_SECONDS
        slow.hold(100)
        slow.start()
    assert limiter.held_bytes == 0


def test_a_permit_holds_the_most_that_it_was_asked_to(limiter: ConcurrencyLimiter) -> None:
    with request(limiter) as permit:
        for size_bytes in (10, 30, 20):
            permit.hold(size_bytes)
        assert limiter.held_bytes == 30


@pytest.mark.parametrize("ending", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_a_permit_is_freed_however_its_block_ends(
    limiter: ConcurrencyLimiter, ending: type[BaseException]
) -> None:
    def fail() -> None:
        with request(limiter) as permit:
            permit.hold(50)
            raise ending

    with pytest.raises(ending):
        fail()
    assert limiter.held_bytes == 0
    assert limiter.taken[Operation("net", Task.CLASSIFY)] == 0
