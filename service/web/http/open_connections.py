"""The open connections of one HTTP worker, and which of them has to make room."""

from __future__ import annotations

import resource
from typing import Protocol

MAX_CONNECTIONS = 4096
"""Maximum connections of an HTTP worker, if the system allows twice as many file descriptors."""

MAX_UNSENT_BYTES = 256 * 2**20
"""Maximum bytes of answers that wait for their readers, beyond what the kernel takes."""

CROWDED, UNREAD = "crowded", "answer-unread"
"""Reasons for which connections are cut; labels of ``metrics.CONNECTIONS_CUT``."""


class Cuttable(Protocol):
    """A connection as this file sees it."""

    def cut(self, reason: str) -> None:
        """Abort the connection without an answer, and remove it from ``all``."""


class Reader(Protocol):
    """A client that reads slower than it is answered."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of its answers that the kernel has not taken yet."""

    def cut(self) -> None:
        """Abort its connection."""


class OpenConnections:
    """The connections of one HTTP worker.

    Those that wait for their client make room for others: first the one that has been idle for the
    longest, then the one that has been sending its body for the longest. A request whose body has
    arrived keeps its connection.

    Args:
        limit: most connections; a new one beyond it replaces one that waits for its client.

    Attributes:
        all: all of them; a connection registers itself.
        idle: those without a request to answer, the longest first.
        uploading: those with a request whose body is on its way, the longest first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.all: set[Cuttable] = set()
        # Dictionaries without values: sets that remember the order.
        self.idle: dict[Cuttable, None] = {}
        self.uploading: dict[Cuttable, None] = {}
        self._unread: dict[Reader, None] = {}

    def make_room(self) -> None:
        """Cut a connection, since a new one is more than allowed."""
        # The new one is the youngest of the idle ones.
        waiting = self.idle if len(self.idle) > 1 else self.uploading or self.idle
        next(iter(waiting)).cut(CROWDED)

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

    @staticmethod
    def for_this_process() -> OpenConnections:
        """Raise the limit on file descriptors as far as allowed, and derive the limit from it."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * MAX_CONNECTIONS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return OpenConnections(MAX_CONNECTIONS if soft < 0 else min(MAX_CONNECTIONS, soft // 2))
