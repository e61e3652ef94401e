"""WebP: the size of the canvas, for which the decoder allocates memory when it opens a file."""

from __future__ import annotations

import struct
from functools import partial

from PIL import Image

from service.api.errors import InvalidImageError
from service.images.containers.exif import exif_orientation
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, MAX_PIECES, FirstFrame
from service.images.pillow import open_image, to_rgb

RIFF_HEADER_BYTES = 12

FLAGS_AT, HAS_ALPHA = 20, 0x10
"""The flags of an extended file, and the one that says that there is transparency."""


def read_webp(body: bytes) -> FirstFrame:
    """Read canvas, frames and orientation; nothing is removed, since the decoder skips the rest.

    Raises:
        InvalidImageError: a chunk is longer than the file.
        struct.error: the file is truncated.
    """
    (riff_bytes,) = struct.unpack_from("<I", body, 4)
    size = _canvas(body)
    file, frames, orientation, position = body, 0, 1, RIFF_HEADER_BYTES
    for _ in range(MAX_PIECES):
        if position + 8 > 8 + riff_bytes:
            frames = max(1, min(frames, MAX_FRAMES_COUNTED))
            return FirstFrame(*size, partial(_draw, file, size), frames, orientation)
        name, length = struct.unpack_from("<4sI", body, position)
        if position + 8 + length > min(len(body), 8 + riff_bytes):
            raise InvalidImageError("The WEBP file is truncated: a chunk is longer than the file.")
        if name == b"EXIF":
            orientation = exif_orientation(body[position + 8 : position + 8 + length])
        if name == b"ANMF" and frames == 0 and _sides(body, position + 14) != size:
            # What the first frame leaves is transparent, but black to Pillow without this flag.
            flags = bytes([body[FLAGS_AT] | HAS_ALPHA])
            file = body[:FLAGS_AT] + flags + body[FLAGS_AT + 1 :]
        frames += name == b"ANMF"
        position += 8 + length + length % 2
    raise InvalidImageError(f"The WEBP file has more than {MAX_PIECES} chunks.")


def _sides(body: bytes, position: int) -> tuple[int, int]:
    """Read two numbers of 24 bits, each one less than the side."""
    width, width_high, height, height_high = struct.unpack_from("<HBHB", body, position)
    return width + (width_high << 16) + 1, height + (height_high << 16) + 1


def _draw(file: bytes, size: tuple[int, int], _: int | None) -> Image.Image:
    return to_rgb(open_image(file, "WEBP", size))


def _canvas(body: bytes) -> tuple[int, int]:
    kind = body[12:16]
    if kind == b"VP8X":
        return _sides(body, 24)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", body, 21)
        return packed % 2**14 + 1, (packed >> 14) % 2**14 + 1
    width, height = struct.unpack_from("<HH", body, 26)
    return width % 2**14, height % 2**14
