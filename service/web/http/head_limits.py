"""Limits of a head, judged while it arrives."""

from __future__ import annotations

import re

from service.api.errors import HeadTooLargeError, MalformedRequestError, TargetTooLongError

MAX_HEAD_BYTES = 64 * 1024
"""Maximum size of a request's first line and headers, or of the lines between a body's chunks."""

MAX_FIRST_LINE_BYTES = 8 * 1024
"""Maximum size of a request's first line; RFC 9112, section 3, asks for 8000 at least."""

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n")


def check_beginning(data: bytes, seen: int = 0) -> None:
    """Judge the beginning of a head whose end has not arrived.

    Of several faults the first one counts.

    Args:
        data: from the head's first byte, without the two line breaks at its end.
        seen: bytes of it that were judged before.

    Raises:
        MalformedRequestError: if a byte stands where none like it may.
        TargetTooLongError: if the first line is too long.
        HeadTooLargeError: if all of it is too large.
    """
    first_line_ends = data.find(b"\r\n", 0, MAX_FIRST_LINE_BYTES + 2) >= 0
    limit = MAX_HEAD_BYTES if first_line_ends else MAX_FIRST_LINE_BYTES + 2
    if control := _CONTROL.search(data, max(seen - 1, 0), limit):
        raise MalformedRequestError(
            f"Byte {control.start() + 1} of the request, {control[0]!r}, may not stand there."
        )
    if len(data) < limit:
        return
    if first_line_ends:
        raise HeadTooLargeError(limit_bytes=MAX_HEAD_BYTES)
    raise TargetTooLongError(limit_bytes=MAX_FIRST_LINE_BYTES)
