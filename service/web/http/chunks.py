"""Bodies in chunks.

Source: RFC 9112, section 7.1.
"""

from __future__ import annotations

import re

from service.api.errors import BodyTooLargeError, HeadTooLargeError, MalformedRequestError
from service.web.http.head_limits import MAX_HEAD_BYTES

FREE_BYTES_PER_CHUNK = 16
"""Bytes between two chunks that do not count towards ``MAX_HEAD_BYTES``: a size, line breaks."""

MAX_SIZE_DIGITS = 15
"""Maximum hexadecimal digits of a chunk's size."""

_LINE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(;.*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")


class Chunked:
    """A body in chunks; extensions and trailers are dropped.

    Attributes:
        left_bytes: None: nobody knows how much has not arrived.
        complete: whether all of it has arrived.
    """

    left_bytes = None

    def __init__(self) -> None:
        self.complete = False
        self._chunk_left_bytes = 0
        self._chunk_ends = self._in_trailers = False
        self._overhead_bytes = 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Split what arrived into a part of the body, and what is left of it.

        The latter follows the body if that is ``complete``; else it is an incomplete line, which
        has to be given again in front of the next data.

        Raises:
            MalformedRequestError: if it is not as RFC 9112 has it.
            BodyTooLargeError: if a chunk's size has too many digits.
            HeadTooLargeError: if lines between chunks, or trailers, are too large.
        """
        parts, position = [], 0
        while not self.complete:
            if self._chunk_left_bytes:
                part = data[position : position + self._chunk_left_bytes]
                if not part:
                    break
                parts.append(part)
                position += len(part)
                self._chunk_left_bytes -= len(part)
                continue
            if self._chunk_ends:
                line_break = data[position : position + 2]
                if not b"\r\n".startswith(line_break):
                    raise MalformedRequestError("A chunk is longer than its size.")
                if len(line_break) < 2:
                    break
                position += 2
                self._chunk_ends = False
                continue
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                if data.find(b"\n", position, position + MAX_HEAD_BYTES) >= 0:
                    raise MalformedRequestError("A line between chunks has a bare line feed.")
                self._check_overhead(len(data) - position - data.endswith(b"\r"))
                break
            self._take_line(data[position:line_end])
            position = line_end + 2
        return b"".join(parts), data[position:]

    def _take_line(self, line: bytes) -> None:
        """Take a chunk's size, or a trailer."""
        self._check_overhead(len(line))
        if not _LINE.fullmatch(line):
            raise MalformedRequestError("A line between chunks has bytes that may not stand there.")
        if not self._in_trailers:
            self._take_size(line)
        elif line:
            if not _TRAILER.match(line):
                raise MalformedRequestError(f"{line[:40]!r} is no trailer.")
            self._overhead_bytes += len(line)
        else:
            self.complete = True

    def _take_size(self, line: bytes) -> None:
        matched = _SIZE_LINE.fullmatch(line)
        if matched is None:
            raise MalformedRequestError(f"{line[:40]!r} is no size of a chunk.")
        digits = matched[1].lstrip(b"0")
        if len(digits) > MAX_SIZE_DIGITS:
            raise BodyTooLargeError(limit_bytes=16**MAX_SIZE_DIGITS)
        size_bytes = int(digits or b"0", 16)
        # A body may have many chunks, but not mainly what is no body.
        excess_bytes = len(line) - FREE_BYTES_PER_CHUNK - size_bytes
        self._overhead_bytes = max(self._overhead_bytes + excess_bytes, 0)
        self._chunk_left_bytes = size_bytes
        self._chunk_ends, self._in_trailers = size_bytes > 0, size_bytes == 0

    def _check_overhead(self, more_bytes: int) -> None:
        if self._overhead_bytes + more_bytes > MAX_HEAD_BYTES:
            raise HeadTooLargeError(limit_bytes=MAX_HEAD_BYTES)
