"""A child process's connection to its supervisor: announcement, heartbeats, end.

A child announces that it is ready with a JSON line on a pipe of its own, where it may also ask for
something, and sends an empty line every second: one whose heartbeats stop is killed and replaced.
Its standard output is not that pipe: whatever prints there is shown beside the log.

On its standard input come messages, a line each, and ``STOP`` when the supervisor wants it to end.
The input closes when the supervisor dies, so no process outlives the service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

_announcements = -1

CONFIGURATION_EXIT_CODE = 78
"""Exit code (EX_CONFIG) of a child that cannot start as its settings say; it has logged why."""

DEVICE_EXIT_CODE = 70
"""Exit code (EX_SOFTWARE) of an engine whose device hangs or is lost."""

ANNOUNCEMENTS_OPTION = "--announcements-fd"
FAILURE = "failure"
REQUEST = "request"
HEARTBEAT = b"\n"
HEARTBEAT_SECONDS = 1.0
STOP = b"stop\n"
READ_BYTES = 64 * 1024


def child_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that the supervisor gives to every child."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--name", required=True)
    parser.add_argument(ANNOUNCEMENTS_OPTION, required=True, type=int)
    return parser


def begin(arguments: argparse.Namespace) -> None:
    """Take over the pipe for announcements, and ignore SIGHUP, which is the supervisor's.

    Args:
        arguments: parsed by ``child_parser``.
    """
    global _announcements
    _announcements = arguments.announcements_fd
    os.set_inheritable(_announcements, False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def announce_failure(reason: str) -> None:
    """Tell the supervisor why this process cannot start."""
    _write({FAILURE: reason})


def announce(facts: dict[str, object]) -> None:
    """Tell the supervisor that this process is ready, or what has changed since.

    Args:
        facts: for the supervisor; they replace those before.
    """
    _write(facts)


def request(facts: dict[str, object]) -> None:
    """Ask the supervisor for something.

    Args:
        facts: for the supervisor; they replace none.
    """
    _write({REQUEST: facts})


def _write(facts: dict[str, object]) -> None:
    with suppress(BrokenPipeError):  # the supervisor is gone, as the standard input says too
        os.write(_announcements, json.dumps(facts).encode() + b"\n")


async def send_heartbeats(observe_lag: Callable[[float], None]) -> None:
    """Send a heartbeat every second, until cancelled or the supervisor is gone.

    Args:
        observe_lag: called with the event loop's lag, seconds.
    """
    while True:
        try:
            os.write(_announcements, HEARTBEAT)
        except BrokenPipeError:
            return
        due = time.monotonic() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        observe_lag(time.monotonic() - due)


class Supervision:
    """The supervisor's messages, read from the standard input while the event loop runs.

    Args:
        take: called with each message but the last one.

    Attributes:
        ended: set when this process is to end.
        orphaned: set when the supervisor is gone, and with it the other processes.
    """

    def __init__(self, take: Callable[[bytes], None] = lambda _: None) -> None:
        self._take = take
        self._unfinished = b""
        self.ended = asyncio.Event()
        self.orphaned = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sys.stdin.fileno(), self._read)

    def _read(self) -> None:
        read = os.read(sys.stdin.fileno(), READ_BYTES)
        if not read:
            self._loop.remove_reader(sys.stdin.fileno())
            self.orphaned.set()
            self.ended.set()
        *lines, self._unfinished = (self._unfinished + read).split(b"\n")
        for line in lines:
            if line + b"\n" == STOP:
                self.ended.set()
            else:
                self._take(line)
