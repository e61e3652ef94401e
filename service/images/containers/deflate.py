"""Deflated pixels: a check that they are all there, for PNG and TIFF."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from service.api.errors import InvalidImageError

STEP_BYTES = 64 * 1024
"""Deflated bytes that are looked at together."""

MAX_SURPLUS_BYTES = 16 * 1024
"""Inflated bytes behind the last pixel at which checking ends: the pixels were all there."""


def check_inflated(pieces: Iterable[bytes], needed_bytes: int, format_name: str) -> None:
    """Inflate a zlib stream, and drop the result, to learn whether it is whole.

    Pillow stops at a stream's end wherever that is, and neither it nor libtiff reads the checksum
    behind the last pixel.

    Args:
        pieces: the stream.
        needed_bytes: how many bytes the pixels take, filters included.
        format_name: told to the caller.

    Raises:
        InvalidImageError: the stream is cut or damaged, or ends before the last pixel.
    """
    inflater, inflated_bytes = zlib.decompressobj(), 0
    try:
        for step in _steps(pieces):
            while step and not inflater.eof:
                room = needed_bytes + MAX_SURPLUS_BYTES - inflated_bytes
                if room <= 0:
                    return
                inflated_bytes += len(inflater.decompress(step, min(room, 4 * STEP_BYTES)))
                step = inflater.unconsumed_tail
    except zlib.error as error:
        raise InvalidImageError(
            f"The {format_name} file is damaged: its pixels cannot be inflated."
        ) from error
    if inflated_bytes < needed_bytes:
        raise InvalidImageError(
            f"The {format_name} file is truncated: its pixels are {needed_bytes} bytes, and it "
            f"holds {inflated_bytes}."
        )
    if not inflater.eof:
        raise InvalidImageError(f"The {format_name} file is truncated: its pixels have no end.")


def _steps(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), STEP_BYTES):
            yield piece[start : start + STEP_BYTES]
