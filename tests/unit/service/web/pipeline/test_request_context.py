from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from service.web.pipeline.request_context import (
    HEADROOM,
    NICENESS,
    THREADS,
    DecodeWaitEstimator,
    Threads,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads("test")
    yield threads
    threads.close()


async def test_a_call_has_its_function_s_result_or_error(threads: Threads) -> None:
    assert await threads.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.call(divmod, 7, 0)


async def test_the_threads_have_names_and_a_higher_niceness(threads: Threads) -> None:
    name = await threads.call(lambda: threading.current_thread().name)
    assert name in {f"test_{number}" for number in range(THREADS)}
    assert await threads.call(os.nice, 0) == os.nice(0) + NICENESS


async def test_a_call_that_is_cancelled_while_it_waits_is_never_made(threads: Threads) -> None:
    free = threading.Event()
    made: list[str] = []
    busy = [threads.call(free.wait, 60) for _ in range(THREADS)]
    waiting = threads.call(made.append, "cancelled")
    waiting.cancel()
    free.set()
    await asyncio.gather(*busy, threads.call(made.append, "next"))
    assert made == ["next"]


async def test_a_result_that_nobody_awaits_any_more_is_dropped(threads: Threads) -> None:
    free = threading.Event()
    future = threads.call(free.wait, 60)
    future.cancel()
    free.set()
    assert await threads.call(divmod, 7, 2) == (3, 1)


async def test_calls_that_end_while_the_loop_is_busy_are_all_delivered(threads: Threads) -> None:
    for _ in range(20):
        calls = [threads.call(int, number) for number in range(50)]
        assert await asyncio.gather(*calls) == [*range(50)]


async def test_closed_threads_cancel_the_calls_that_wait_and_end() -> None:
    threads, free = Threads("closed"), threading.Event()
    began = threading.Barrier(THREADS + 1, timeout=60)
    busy = [threads.call(lambda: (began.wait(), free.wait(60))[1]) for _ in range(THREADS)]
    await asyncio.to_thread(began.wait)
    waiting = threads.call(print)
    threads.close()
    free.set()
    assert await asyncio.gather(*busy) == [True] * THREADS
    assert waiting.cancelled()
    for thread in threading.enumerate():
        if thread.name.startswith("closed_"):
            thread.join(10)
            assert not thread.is_alive()


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
