"""Ctrl-C and SIGTERM: at every moment they end a command with its exit code, without a traceback.

They wait until a command begins, and raise an exception while it runs. They end the process at once
while it imports packages, and once it is done: there an exception may be lost, or become another.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130
TERMINATED = 143
"""The code that a shell shows after SIGTERM."""

CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


def hold_signals() -> None:
    """Let them wait for the ``raising_signals`` of this process, or of what replaces it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, CODES)


@contextmanager
def raising_signals(codes: list[int]) -> Iterator[None]:
    """Raise KeyboardInterrupt on both: libraries know it, and replace a SystemExit.

    Args:
        codes: gets the exit code of a SIGTERM.
    """

    def terminate(*_: object) -> NoReturn:
        codes.append(TERMINATED)
        raise KeyboardInterrupt

    # asyncio cancels its main task instead, if it finds this very handler.
    with _handled_by({signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)
        yield


@contextmanager
def ending_at_once() -> Iterator[None]:
    """End the process in these lines, in which it imports packages and has begun nothing."""
    with _handled_by(dict.fromkeys(CODES, _end)):
        yield


@contextmanager
def deferring_signals() -> Iterator[None]:
    """Handle them after these lines, which must not end in the middle."""
    came: list[int] = []
    try:
        with _handled_by(dict.fromkeys(CODES, lambda number, _: came.append(number))):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


def end_at_once() -> None:
    """End the process from now on: the interpreter ends, which may take it seconds."""
    _handle(dict.fromkeys(CODES, _end))


Handlers = dict[signal.Signals, Callable[[int, FrameType | None], Any]]


@contextmanager
def _handled_by(handlers: Handlers) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in handlers}
    _handle(handlers)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _handle(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        # nohup, and a shell for its background jobs, have Ctrl-C ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> NoReturn:
    os._exit(CODES[signal.Signals(number)])
