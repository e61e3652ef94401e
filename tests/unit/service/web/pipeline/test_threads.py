"""Calls in the threads of an event loop: each has its result soon after it has ended."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from service.settings import Settings
from service.web.pipeline import Pipeline
from service.web.pipeline.threads import (
    NICENESS,
    THREADS,
    TOGETHER,
    TOGETHER_SECONDS,
    Threads,
    decoded_together,
)


@pytest.fixture(params=[1, TOGETHER])
def threads(request: pytest.FixtureRequest) -> Iterator[Threads]:
    threads = Threads("test", request.param)
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


async def test_calls_that_end_while_others_wait_wake_the_loop_once_for_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, wakes = asyncio.get_running_loop(), []
    wake = loop.call_soon_threadsafe

    def counted(*arguments: Any) -> asyncio.Handle:
        wakes.append(arguments)
        return wake(*arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    threads = Threads("test", TOGETHER)
    await asyncio.gather(*(threads.call(time.sleep, 0.002) for _ in range(40)))
    threads.close()
    assert 1 <= len(wakes) <= 15


async def test_a_call_that_has_ended_does_not_wait_for_a_long_one(threads: Threads) -> None:
    free = threading.Event()
    long = [threads.call(free.wait, 60) for _ in range(THREADS - 1)]
    quick = threads.call(divmod, 7, 2)
    behind = [threads.call(free.wait, 60) for _ in range(2)]
    # The first of those has a thread, and the second waits for one until all are free.
    assert await asyncio.wait_for(quick, 30) == (3, 1)
    free.set()
    assert await asyncio.gather(*long, *behind) == [True] * (THREADS + 1)


async def test_a_call_that_has_ended_does_not_wait_for_a_cancelled_one(threads: Threads) -> None:
    free, released = threading.Event(), threading.Event()
    long = [threads.call(free.wait, 60) for _ in range(THREADS - 1)]
    quick, cancelled = threads.call(released.wait, 60), threads.call(print)
    cancelled.cancel()
    released.set()
    assert await asyncio.wait_for(quick, 30)
    free.set()
    await asyncio.gather(*long)


async def test_an_idle_loop_has_no_timer() -> None:
    threads = Threads("test", TOGETHER)
    await asyncio.gather(*(threads.call(int, number) for number in range(20)))
    await asyncio.sleep(3 * TOGETHER_SECONDS)
    assert threads._timer is None
    threads.close()


async def test_closed_threads_tell_of_calls_that_nothing_waits_behind(threads: Threads) -> None:
    free, began = threading.Event(), threading.Barrier(THREADS + 1, timeout=60)
    busy = [threads.call(lambda: (began.wait(), free.wait(60))[1]) for _ in range(THREADS)]
    await asyncio.to_thread(began.wait)
    await asyncio.sleep(3 * TOGETHER_SECONDS)
    threads.close()
    free.set()
    assert await asyncio.wait_for(asyncio.gather(*busy), 30) == [True] * THREADS


async def test_stop_iteration_fails_a_call_as_another_error_would(threads: Threads) -> None:
    calls = [threads.call(next, iter(())), threads.call(divmod, 7, 2)]
    with pytest.raises(RuntimeError, match="StopIteration"):
        await calls[0]
    assert await calls[1] == (3, 1)


@pytest.mark.parametrize(("cores", "together"), [({3}, TOGETHER), ({0, 1}, 1)])
def test_decoded_images_are_told_together_on_one_core_alone(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], together: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    assert decoded_together() == together


def test_the_pipeline_tells_of_decoded_images_alone_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    pipeline = Pipeline(Settings(), cast("Any", None))
    assert pipeline._decode_threads._together == TOGETHER
    assert pipeline._render_threads._together == 1
