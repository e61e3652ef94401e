"""The open connections of one HTTP worker, and which of them has to make room."""

from __future__ import annotations

import resource
from typing import Protocol

from service import metrics

MAX_CONNECTIONS = 4096
"""Maximum connections of an HTTP worker, if the system allows twice as many file descriptors."""

MAX_UNSENT_BYTES = 256 * 2**20
"""Maximum bytes of answers that wait for their readers, beyond what the kernel takes."""

CROWDED, UNREAD = "crowded", "answer-unread"
"""Reasons for which connections are cut; labels of ``metrics.CONNECTIONS_CUT``."""


class Cuttable(Protocol):
    """A connection as this file sees it."""

    def cut(self, reason: str) -> None:
        """Abort the connection without an answer, and remove it from the registry."""


class Reader(Protocol):
    """A client that reads slower than it is answered."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of its answers that the kernel has not taken yet."""

    def cut(self) -> None:
        """Abort its connection, and remove it from the registry."""


class OpenConnections:
    """The connections of one HTTP worker.

    Those that wait for their client make room for others: first the one that has been idle for the
    longest, then the one that has been sending its body for the longest. A request whose body has
    arrived keeps its connection.

    Args:
        limit: most connections; a new one beyond it replaces one that waits for its client.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Cuttable] = set()
        # Dictionaries without values: sets that remember the order.
        self._idle: dict[Cuttable, None] = {}
        self._uploading: dict[Cuttable, None] = {}
        self._unread: dict[Reader, None] = {}

    def add(self, connection: Cuttable) -> None:
        """Register a new connection; make room if there are too many."""
        self._open.add(connection)
        self.mark_idle(connection)
        if len(self._open) > self._limit:
            # The new one is the youngest of the idle ones.
            waiting = self._idle if len(self._idle) > 1 else self._uploading or self._idle
            next(iter(waiting)).cut(CROWDED)
        metrics.CONNECTIONS.set(len(self._open))

    def mark_idle(self, connection: Cuttable) -> None:
        """Note that a connection has no request to answer."""
        self._uploading.pop(connection, None)
        self._idle[connection] = None

    def mark_uploading(self, connection: Cuttable) -> None:
        """Note that a connection has a request whose body is on its way."""
        self._idle.pop(connection, None)
        self._uploading[connection] = None

    def mark_busy(self, connection: Cuttable) -> None:
        """Note that a connection has a complete request to answer."""
        self._idle.pop(connection, None)
        self._uploading.pop(connection, None)

    def mark_unread(self, reader: Reader) -> None:
        """Note that a client reads slower than it is answered.

        Where such answers need too much memory, those that have waited the longest are given up.
        """
        self._unread[reader] = None
        while sum(each.unsent_bytes for each in self._unread) > MAX_UNSENT_BYTES:
            longest_unread = next(iter(self._unread))
            self.mark_read(longest_unread)
            longest_unread.cut()

    def mark_read(self, reader: Reader) -> None:
        """Note that a client has read what it was sent, or is gone."""
        self._unread.pop(reader, None)

    def remove(self, connection: Cuttable) -> None:
        """Unregister a connection."""
        self._open.discard(connection)
        self.mark_busy(connection)
        metrics.CONNECTIONS.set(len(self._open))

    @staticmethod
    def for_this_process() -> OpenConnections:
        """Raise the limit on file descriptors as far as allowed, and derive the limit from it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MAX_CONNECTIONS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return OpenConnections(MAX_CONNECTIONS if soft < 0 else min(MAX_CONNECTIONS, soft // 2))
