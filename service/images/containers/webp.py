"""WebP: the size of the canvas, for which the decoder allocates memory when it opens a file."""

from __future__ import annotations

import struct

from service.api.errors import InvalidImageError
from service.images.containers.exif import exif_orientation
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, MAX_PIECES, FirstFrame

RIFF_HEADER_BYTES = 12


def read_webp(body: bytes) -> FirstFrame:
    """Read canvas, frames and orientation; nothing is removed, since the decoder skips the rest.

    Raises:
        struct.error: the file is truncated.
    """
    (riff_bytes,) = struct.unpack_from("<I", body, 4)
    width, height = _canvas(body)
    frames, orientation, position = 0, 1, RIFF_HEADER_BYTES
    for _ in range(MAX_PIECES):
        if position + 8 > 8 + riff_bytes:
            frames = max(1, min(frames, MAX_FRAMES_COUNTED))
            return FirstFrame(body, width, height, frames, orientation)
        name, length = struct.unpack_from("<4sI", body, position)
        if name == b"EXIF":
            orientation = exif_orientation(body[position + 8 : position + 8 + length])
        frames += name == b"ANMF"
        position += 8 + length + length % 2
    raise InvalidImageError(f"The WEBP file has more than {MAX_PIECES} chunks.")


def _canvas(body: bytes) -> tuple[int, int]:
    kind = body[12:16]
    if kind == b"VP8X":
        # Two numbers of 24 bits, each one less than the side.
        width, width_high, height, height_high = struct.unpack_from("<HBHB", body, 24)
        return width + (width_high << 16) + 1, height + (height_high << 16) + 1
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", body, 21)
        return packed % 2**14 + 1, (packed >> 14) % 2**14 + 1
    width, height = struct.unpack_from("<HH", body, 26)
    return width % 2**14, height % 2**14
