"""The messages that are being received: as many at a time as there is memory for.

gRPC tells nothing of a message until it is complete, so that each has to count as the largest. A
call whose message is not asked for holds only the first of its bytes: the rest waits at the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.api.errors import MemoryFullError, ServiceError
from service.web.admission import UPLOAD_SECONDS

MessageT = TypeVar("MessageT")


class MessageReceiver:
    """Receives messages, up to a number at a time; the others wait.

    One that takes longer than ``UPLOAD_SECONDS`` gives way where others wait.

    Args:
        places: most messages that are received at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._waiting = 0
        # Dictionaries without values: sets that remember the order.
        self._overdue: dict[asyncio.Timeout, None] = {}

    async def receive(self, read: Callable[[], Awaitable[MessageT]]) -> MessageT:
        """Receive a message.

        Args:
            read: receives it, and has not begun to.

        Raises:
            MemoryFullError: if it gave way.
        """
        await self._enter()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as timeout:
                overdue = loop.call_later(UPLOAD_SECONDS, self._note_overdue, timeout)
                try:
                    return await read()
                finally:
                    overdue.cancel()
                    self._overdue.pop(timeout, None)
        except TimeoutError:
            raise ServiceError.rebuilt(
                MemoryFullError.slug,
                f"The message was not complete after {UPLOAD_SECONDS:g} seconds, "
                "and others wait to be received.",
                1.0,
            ) from None
        finally:
            self._places.release()

    async def _enter(self) -> None:
        self._waiting += 1
        try:
            if self._places.locked() and self._overdue:
                self._end(next(iter(self._overdue)))
            await self._places.acquire()
        finally:
            self._waiting -= 1

    def _note_overdue(self, timeout: asyncio.Timeout) -> None:
        if self._waiting:
            self._end(timeout)
        else:
            self._overdue[timeout] = None

    def _end(self, timeout: asyncio.Timeout) -> None:
        self._overdue.pop(timeout, None)
        timeout.reschedule(asyncio.get_running_loop().time())
