"""A limit on how slowly a client reads its answer."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable

from service.web.http.open_connections import OpenConnections

UNREAD_SECONDS = 10.0
"""Seconds after which a connection is cut if its client reads its answer too slowly."""

LEAST_READ_BYTES_PER_SECOND = 1024
"""Least rate at which a client has to read, once the kernel takes no more of its answer."""


class ReaderWatch:
    """The client of one connection, as it reads its answers.

    Args:
        transport: the connection's.
        loop: of the connection.
        open_connections: of the HTTP worker.
        cut: ends the connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        open_connections: OpenConnections,
        cut: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._open_connections = open_connections
        self.cut = cut
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def start(self) -> None:
        """Watch the client until everything is sent."""
        if self._timer is None:
            self._schedule()
        self._open_connections.mark_unread(self)

    def stop(self) -> None:
        """Watch no longer, since the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._open_connections.mark_read(self)

    def _schedule(self) -> None:
        self._timer = self._loop.call_later(UNREAD_SECONDS, self._check, self._unread_bytes())

    def _check(self, unread_bytes: int) -> None:
        least_bytes = LEAST_READ_BYTES_PER_SECOND * UNREAD_SECONDS
        if not self.unsent_bytes:
            self._timer = None
            self._open_connections.mark_read(self)
        elif self._unread_bytes() > unread_bytes - least_bytes:
            self.cut()
        else:
            self._schedule()

    def _unread_bytes(self) -> int:
        """Return the bytes that the client's system has not acknowledged.

        The kernel's own buffer counts: it takes more by the megabyte, so that a slow reader seems
        to read nothing for a minute.
        """
        socket = self._transport.get_extra_info("socket")
        queued = bytes(4) if socket is None else fcntl.ioctl(socket, termios.TIOCOUTQ, bytes(4))
        queued_bytes: int = struct.unpack("i", queued)[0]
        return self.unsent_bytes + queued_bytes
