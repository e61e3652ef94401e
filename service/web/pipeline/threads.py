"""Threads that decode and render for an HTTP worker's event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

THREADS = 2
"""Number of decoding threads, and of rendering threads."""

NICENESS = 2
"""Niceness of those threads, added to the process's own. The more of it, the sooner the event loop
interrupts them, for one packet at a time, and both find the caches filled by the other; without any
the event loop comes too late to reject what is too much."""

TOGETHER = 4
"""Decoded images that go on together while others wait for a thread, where the process has a single
core: the event loop finds its caches filled by decoding each time that it is woken."""

TOGETHER_SECONDS = 0.02
"""Longest that the first of them waits for the others."""

ResultT = TypeVar("ResultT")

Call = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """Threads that call functions for one event loop.

    On Linux a niceness is a thread's. Where cores are few, the event loop, which rejects excess
    requests, runs before the decoding of those that were admitted.

    Unlike an executor of ``concurrent.futures``, a call has one future, and while calls wait for a
    thread the event loop is woken once for several that have ended, by then up to
    ``TOGETHER_SECONDS`` ago.

    Args:
        name: that the threads' names begin with.
        together: calls that end until the event loop is woken, while others wait.
    """

    def __init__(self, name: str, together: int = 1) -> None:
        self._name, self._together = name, together
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._ended: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        self._lock = threading.Lock()  # for what has ended, and the three below
        self._open = 0  # calls of which the event loop does not know the end
        self._first_ended = 0.0
        self._wakes = False  # a delivery is under way
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, function: Callable[..., ResultT], *arguments: Any) -> asyncio.Future[ResultT]:
        """Call a function in one of the threads, unless its future is done before that."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for number in range(THREADS):
                name = f"{self._name}_{number}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        future: asyncio.Future[ResultT] = self._loop.create_future()
        with self._lock:
            self._open += 1
        self._calls.put((future, function, arguments))
        self._set_timer(TOGETHER_SECONDS)
        return future

    def close(self) -> None:
        """Let the threads end when their calls have; those that wait are cancelled."""
        with suppress(Empty):
            while True:
                waiting = self._calls.get_nowait()
                if waiting is not None:
                    waiting[0].cancel()
                    with self._lock:
                        self._open -= 1
        for _ in range(THREADS):
            self._calls.put(None)

    def _work(self) -> None:
        os.nice(NICENESS)
        while (waiting := self._calls.get()) is not None:
            future, function, arguments = waiting
            self._end(future, *((None, None) if future.done() else _outcome(function, arguments)))
            # Nothing is kept alive while the thread waits for the next call.
            del waiting, future, function, arguments

    def _end(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        assert self._loop is not None
        with self._lock:
            if not self._ended:
                self._first_ended = time.monotonic()
            self._ended.append((future, result, error))
            ended = len(self._ended)
            # Otherwise others wait for a thread, and so the event loop has set its timer.
            is_due = ended >= self._together or self._open - ended < THREADS
            wakes, self._wakes = is_due and not self._wakes, is_due or self._wakes
        if wakes:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _set_timer(self, seconds: float) -> None:
        """Deliver later, if calls wait for a thread and nothing else is due until then."""
        if self._timer is None and self._open > THREADS and self._together > 1:
            assert self._loop is not None
            self._timer = self._loop.call_later(seconds, self._deliver_late)

    def _deliver_late(self) -> None:
        self._timer = None
        with self._lock:
            waited_seconds = time.monotonic() - self._first_ended if self._ended else 0.0
        if waited_seconds < TOGETHER_SECONDS / 2 and self._open > THREADS:
            # What has ended just now may wait for others.
            self._set_timer(TOGETHER_SECONDS - waited_seconds)
        else:
            self._deliver()
            self._set_timer(TOGETHER_SECONDS)

    def _deliver(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
            self._open -= len(ended)
            self._wakes = False
        for future, result, error in ended:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def decoded_together() -> int:
    """Return how many decoded images go on together: with cores to spare each would only wait."""
    has_one_core = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
    return TOGETHER if has_one_core else 1


def _outcome(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    try:
        return function(*arguments), None
    except StopIteration as error:  # which no future takes before Python 3.12
        return None, RuntimeError(f"a call ended with {error!r}")
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        return None, error
