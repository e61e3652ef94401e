"""Which requests are on the device, in a file that outlives the engine.

Not a message to the HTTP workers: what was queued for sending dies with the process, and a request
whose pixels crash the engine would be sent again and again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

JOURNAL_BYTES = 64 * 1024
"""Room for the largest batch, taken at the start: a full disk must not matter later."""

_LENGTH_BYTES = 4

Identity = tuple[bytes, int]
"""An HTTP worker's name and its number for the request."""


class JournalEntry(msgspec.Struct, frozen=True):
    """A batch on the device.

    Attributes:
        incarnation: the engine that ran it.
        requests: what was in it.
    """

    incarnation: str
    requests: list[Identity]


class InFlightJournal:
    """Remembers the batch that runs, across the death of the process that runs it.

    Args:
        path: the engine's own file.
        incarnation: this engine's.

    Attributes:
        last: the batch that the engine's predecessor died with, if there was one.
    """

    def __init__(self, path: Path, incarnation: str) -> None:
        self._incarnation = incarnation
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._file, 0, JOURNAL_BYTES)
        self.last = self._read()

    def begin(self, requests: Sequence[Identity]) -> None:
        """Note that a batch goes to the device."""
        self._write(msgspec.msgpack.encode(JournalEntry(self._incarnation, list(requests))))

    def end(self) -> None:
        """Note that nothing is on the device."""
        self._write(b"")

    def _write(self, flight: bytes) -> None:
        # One call: the kernel finishes it even if the process is killed meanwhile.
        os.pwrite(self._file, len(flight).to_bytes(_LENGTH_BYTES, "big") + flight, 0)

    def _read(self) -> JournalEntry | None:
        record = os.pread(self._file, JOURNAL_BYTES, 0)
        length = int.from_bytes(record[:_LENGTH_BYTES], "big")
        if not length:
            return None
        return msgspec.msgpack.decode(record[_LENGTH_BYTES:][:length], type=JournalEntry)
