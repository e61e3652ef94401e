"""What ties a child process to its supervisor.

A child announces itself with a JSON line on its standard output, and an empty line every second
says that its event loop turns: one that falls silent is killed and replaced. Its standard input
closes when the supervisor lets go of it, or dies: no process outlives the service.
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
"""Exit code (EX_CONFIG) of a child that no restart will help."""

HEARTBEAT = b"\n"
HEARTBEAT_SECONDS = 1.0


def announce(facts: dict[str, object]) -> None:
    """Tell the supervisor that this process is ready, and what it is."""
    os.write(_announcements, json.dumps(facts).encode() + b"\n")


def keep_output_for_announcements() -> None:
    """Send whatever libraries print to standard error, so that only announcements go out."""
    global _announcements
    _announcements = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


async def send_heartbeats(observe_lag: Callable[[float], None]) -> None:
    """Tell the supervisor, until cancelled, that this process's event loop turns.

    Args:
        observe_lag: gets how late it woke up, seconds.
    """
    while True:
        os.write(_announcements, HEARTBEAT)
        due = time.monotonic() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        observe_lag(time.monotonic() - due)


def supervisor_gone() -> asyncio.Event:
    """Return an event that is set when the supervisor lets go of this process."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def on_input() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            event.set()

    loop.add_reader(sys.stdin.fileno(), on_input)
    return event
