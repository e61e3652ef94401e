"""Threads that decode and render for an HTTP worker's event loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

THREADS = 2
"""Number of decoding threads, and of rendering threads."""

NICENESS = 2
"""Niceness of those threads, added to the process's own. The more of it, the sooner the event loop
interrupts them, for one packet at a time, and both find the caches filled by the other; without any
the event loop comes too late to reject what is too much."""

TOGETHER = 4
"""Calls that end while others wait for a thread, and are told to the event loop at once. Where both
share a core, it finds the caches filled by decoding each time that it is woken."""

TOGETHER_SECONDS = 0.02
"""Longest that the first of them waits for the others."""

ResultT = TypeVar("ResultT")

Call = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """Threads that call functions for one event loop.

    On Linux a niceness is a thread's. Where cores are few, the event loop, which rejects excess
    requests, runs before the decoding of those that were admitted.

    Unlike an executor of ``concurrent.futures``, a call has one future, and while calls wait for a
    thread the event loop is woken once for several that have ended.

    Args:
        name: that the threads' names begin with.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._ended: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        self._lock = threading.Lock()
        self._first_ended = 0.0
        self._woken = False
        self._latest: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, function: Callable[..., ResultT], *arguments: Any) -> asyncio.Future[ResultT]:
        """Call a function in one of the threads, unless its future is done before that."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for number in range(THREADS):
                name = f"{self._name}_{number}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        future: asyncio.Future[ResultT] = self._loop.create_future()
        self._calls.put((future, function, arguments))
        self._deliver_in_time()
        return future

    def close(self) -> None:
        """Let the threads end when their calls have; those that wait are cancelled."""
        while not self._calls.empty():
            waiting = self._calls.get()
            if waiting is not None:
                waiting[0].cancel()
        for _ in range(THREADS):
            self._calls.put(None)
        if self._loop is not None:
            self._deliver_in_time()

    def _work(self) -> None:
        os.nice(NICENESS)
        while (waiting := self._calls.get()) is not None:
            future, function, arguments = waiting
            if not future.done():
                self._end(future, *_outcome(function, arguments))
            # Nothing is kept alive while the thread waits for the next call.
            del waiting, future, function, arguments

    def _end(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        assert self._loop is not None
        with self._lock:
            if not self._ended:
                self._first_ended = time.monotonic()
            self._ended.append((future, result, error))
            is_due = len(self._ended) >= TOGETHER or self._calls.empty()
            wakes, self._woken = is_due and not self._woken, is_due or self._woken
        if wakes:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver_in_time(self) -> None:
        """Set a timer while calls wait: nothing else wakes the event loop for what ended then."""
        if self._latest is None and not self._calls.empty():
            self._set_timer(TOGETHER_SECONDS)

    def _set_timer(self, seconds: float) -> None:
        assert self._loop is not None
        self._latest = self._loop.call_later(seconds, self._deliver_late)

    def _deliver_late(self) -> None:
        self._latest = None
        with self._lock:
            waited_seconds = time.monotonic() - self._first_ended if self._ended else None
        if waited_seconds is not None and waited_seconds < TOGETHER_SECONDS:
            self._set_timer(TOGETHER_SECONDS - waited_seconds)
            return
        self._deliver()
        self._deliver_in_time()

    def _deliver(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
            self._woken = False
        for future, result, error in ended:
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def _outcome(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    try:
        return function(*arguments), None
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        return None, error
