"""The end of a connection whose client may still be sending.

A connection that is closed with unread input is reset, and the client may lose the answer
(RFC 9112, section 9.6). So our side is ended first, and what the client still sends is dropped for
a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LINGER_SECONDS = 30.0
"""Seconds for which a client may go on sending after its last answer."""

LINGER_BYTES = 256 * 2**20
"""Bytes that it may send meanwhile; one that sends more may lose its answer."""

QUIET_SECONDS = 5.0
"""Seconds without a byte after which nothing more is expected."""


class Lingering:
    """A connection whose last answer is sent.

    Args:
        transport: the connection's; our side of it is ended.
        loop: of the connection.
        close: closes the connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._close = close
        self._dropped_bytes = self._seen_bytes = 0
        self._ends_at_seconds = loop.time() + LINGER_SECONDS
        self._timer = loop.call_later(QUIET_SECONDS, self._check)
        transport.write_eof()

    def drop(self, size_bytes: int) -> None:
        """Take note of bytes that the client sent."""
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > LINGER_BYTES:
            self._close()

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()

    def _check(self) -> None:
        quiet = self._dropped_bytes == self._seen_bytes
        if quiet or self._loop.time() >= self._ends_at_seconds:
            self._close()
        else:
            self._seen_bytes = self._dropped_bytes
            self._timer = self._loop.call_later(QUIET_SECONDS, self._check)
