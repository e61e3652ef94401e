"""Waiting for what child processes announce."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Lets tasks wait for conditions, which are looked at again whenever something has changed."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def note(self) -> None:
        """Note that something has changed."""
        for event in self._waiting:
            event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while not condition():
                await event.wait()
                event.clear()
        finally:
            self._waiting.discard(event)
