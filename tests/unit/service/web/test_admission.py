from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from model.config import Task
from service.api.errors import MemoryFullError, NotReadyError, QueueFullError
from service.web.admission import HEADROOM, ConcurrencyLimiter, DecodeWaitEstimator, Draining


@pytest.fixture
def limiter() -> ConcurrencyLimiter:
    return ConcurrencyLimiter(max_requests=2, max_bytes=100, retry_after_seconds=lambda: 7.5)


def test_no_more_requests_of_a_task_are_let_in_than_allowed(limiter: ConcurrencyLimiter) -> None:
    with limiter.take(Task.CLASSIFY), limiter.take(Task.CLASSIFY):
        with pytest.raises(QueueFullError) as raised, limiter.take(Task.CLASSIFY):
            pass
        with limiter.take(Task.SEGMENT):
            assert limiter.taken == {Task.CLASSIFY: 2, Task.SEGMENT: 1, Task.DETECT: 0}
    assert raised.value.retry_after_seconds == 7.5
    assert set(limiter.taken.values()) == {0}


def test_bytes_are_counted_over_all_tasks_and_given_back(limiter: ConcurrencyLimiter) -> None:
    with limiter.take(Task.CLASSIFY) as first:
        first.hold(60)
        with limiter.take(Task.SEGMENT) as second:
            second.hold(40)
            with pytest.raises(MemoryFullError) as raised:
                second.hold(41)
        assert limiter.held_bytes == 60
    assert limiter.held_bytes == 0
    assert "100 bytes" in raised.value.detail


def test_a_permit_holds_the_most_that_it_was_asked_to(limiter: ConcurrencyLimiter) -> None:
    with limiter.take(Task.CLASSIFY) as permit:
        for size_bytes in (10, 30, 20):
            permit.hold(size_bytes)
        assert limiter.held_bytes == 30


@pytest.mark.parametrize("ending", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
def test_a_permit_is_freed_however_its_block_ends(
    limiter: ConcurrencyLimiter, ending: type[BaseException]
) -> None:
    def fail() -> None:
        with limiter.take(Task.CLASSIFY) as permit:
            permit.hold(50)
            raise ending

    with pytest.raises(ending):
        fail()
    assert limiter.held_bytes == 0
    assert limiter.taken[Task.CLASSIFY] == 0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_foreseen_before_anything_was_decoded() -> None:
    line = DecodeWaitEstimator(Clock())
    with line.waiting():
        assert line.wait_seconds == 0.0


def test_the_wait_is_the_length_times_the_pace() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    for _ in range(3):
        clock.now += 5  # idle between them: that is no pace
        with line.waiting():
            clock.now += 0.02
    assert line.wait_seconds == 0.0
    with line.waiting(), line.waiting(), line.waiting():
        assert line.wait_seconds == pytest.approx(3 * 0.02 * HEADROOM)


def test_a_busy_line_moves_as_fast_as_its_threads_together() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    for _ in range(40):  # two at a time, 20 ms each
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(line.waiting())
            second.enter_context(line.waiting())
            clock.now += 0.02
    with line.waiting():
        assert line.wait_seconds == pytest.approx(0.01 * HEADROOM, rel=0.15)


def test_a_line_that_gets_slower_is_noticed() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    for seconds in [0.01] * 20 + [0.1] * 30:
        with line.waiting():
            clock.now += seconds
    with line.waiting():
        assert line.wait_seconds == pytest.approx(0.1 * HEADROOM, rel=0.1)


def test_who_leaves_early_counts_no_more_and_teaches_nothing() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    with line.waiting():
        clock.now += 0.02

    def leave_early() -> None:
        with line.waiting():
            clock.now += 30
            raise TimeoutError

    with pytest.raises(TimeoutError):
        leave_early()
    assert line.wait_seconds == 0.0
    with line.waiting():
        assert line.wait_seconds == pytest.approx(0.02 * HEADROOM)


async def test_requests_are_taken_during_the_delay_and_refused_after_it() -> None:
    draining = Draining()
    running = asyncio.create_task(draining.run(0.05, 10.0))
    await asyncio.sleep(0)
    assert draining.begun
    with draining.request():
        await asyncio.sleep(0.1)
        with pytest.raises(NotReadyError, match="stopping"), draining.request():
            pass
        assert not running.done()
    await running


async def test_it_ends_at_its_limit_though_a_request_is_under_way() -> None:
    draining = Draining()
    with draining.request():
        await draining.run(0.0, 0.01)


async def test_it_ends_at_once_where_nothing_is_under_way() -> None:
    draining = Draining()
    with draining.request():
        pass
    await asyncio.wait_for(draining.run(0.0, 600.0), 1.0)
