"""A child process's connection to its supervisor: announcement, heartbeats, end.

A child announces that it is ready with a JSON line on its standard output, and sends an empty line
every second: one whose heartbeats stop is killed and replaced. Its standard input closes when the
supervisor closes it or dies, so no process outlives the service.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable

_announcements = 1

CONFIGURATION_EXIT_CODE = 78
"""Exit code (EX_CONFIG) of a child that a restart would not help."""

HEARTBEAT = b"\n"
HEARTBEAT_SECONDS = 1.0


def announce(facts: dict[str, object]) -> None:
    """Tell the supervisor that this process is ready, with facts for its log."""
    os.write(_announcements, json.dumps(facts).encode() + b"\n")


def keep_output_for_announcements() -> None:
    """Redirect what libraries print to standard error, and keep the output for announcements."""
    global _announcements
    _announcements = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


async def send_heartbeats(observe_lag: Callable[[float], None]) -> None:
    """Send a heartbeat every second, until cancelled.

    Args:
        observe_lag: called with the event loop's lag, seconds.
    """
    while True:
        os.write(_announcements, HEARTBEAT)
        due = time.monotonic() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        observe_lag(time.monotonic() - due)


def supervisor_gone() -> asyncio.Event:
    """Return an event that is set when the supervisor closes the standard input or dies."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def on_input() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            event.set()

    loop.add_reader(sys.stdin.fileno(), on_input)
    return event
