"""PNG: the chunks that draw; Pillow verifies their checksums."""

from __future__ import annotations

import struct
import zlib

from service.api.errors import InvalidImageError
from service.images.containers.exif import exif_orientation
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, MAX_PIECES, FirstFrame

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DRAWING = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
GREY, RGB = 0, 2


def read_png(body: bytes) -> FirstFrame:
    """Keep header, palette, transparency and pixels; drop text, profiles and animation.

    Raises:
        struct.error: the file is truncated.
    """
    kept = [SIGNATURE]
    header, frames, orientation, position = b"", 1, 1, len(SIGNATURE)
    for _ in range(MAX_PIECES):
        length, name = struct.unpack_from(">I4s", body, position)
        data, end = position + 8, position + 8 + length + 4
        if end > len(body):
            raise InvalidImageError("The PNG file is truncated.")
        if name == b"IHDR":
            header = body[data : end - 4]
        if name == b"tRNS":
            kept.append(_scaled_transparency(body[position:end], header))
        elif name in DRAWING:
            kept.append(body[position:end])
        elif name == b"acTL":
            frames = min(max(struct.unpack_from(">I", body, data)[0], 1), MAX_FRAMES_COUNTED)
        elif name == b"eXIf":
            orientation = exif_orientation(body[data : end - 4])
        if name == b"IEND":
            width, height = struct.unpack_from(">II", header)
            return FirstFrame(b"".join(kept), width, height, frames, orientation)
        position = end
    raise InvalidImageError(f"The PNG file has more than {MAX_PIECES} chunks.")


def _scaled_transparency(transparency: bytes, header: bytes) -> bytes:
    """Scale a transparent colour as Pillow scales the pixels that it compares it with."""
    depth, colour_type = struct.unpack_from("BB", header, 8)
    if colour_type == GREY and depth in (2, 4):
        (level,) = struct.unpack_from(">H", transparency, 8)
        levels = [level % 2**depth * 255 // (2**depth - 1)]
    elif colour_type == RGB and depth == 16:
        levels = [level >> 8 for level in struct.unpack_from(">3H", transparency, 8)]
    else:
        return transparency
    chunk = b"tRNS" + struct.pack(f">{len(levels)}H", *levels)
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
