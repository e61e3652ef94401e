"""PNG: the chunks that draw; Pillow verifies their checksums, and zlib that no row is missing."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import NamedTuple

from PIL import Image

from service.api.errors import InvalidImageError, UnsupportedMediaError
from service.images.containers.deflate import check_inflated
from service.images.containers.exif import exif_orientation
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, MAX_PIECES, FirstFrame
from service.images.pillow import check_palette, open_image, to_rgb

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DRAWING = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
GREY, RGB, PALETTE = 0, 2, 3
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, 4: 2, 6: 4}

METHODS = {(0, 0, 0), (0, 0, 1)}
"""How pixels can be compressed, filtered and interlaced (PNG, 11.2.2)."""

PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row of each pass of an interlaced image, and the steps between them (Adam7)."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filters: int
    interlaced: int


def read_png(body: bytes) -> FirstFrame:
    """Keep header, palette, transparency and pixels; drop text, profiles and animation.

    Raises:
        UnsupportedMediaError: Apple's variant, whose pixels are stored in another way.
        InvalidImageError: the file is damaged.
        struct.error: the file is truncated.
    """
    kept, pixels = [SIGNATURE], []
    header, palette_bytes, frames, orientation, position = b"", 0, 1, 1, len(SIGNATURE)
    for _ in range(MAX_PIECES):
        length, name = struct.unpack_from(">I4s", body, position)
        data, end = position + 8, position + 8 + length + 4
        if end > len(body):
            raise InvalidImageError("The PNG file is truncated.")
        if name == b"CgBI":
            raise UnsupportedMediaError("Apple's own variant of PNG (CgBI) is not supported.")
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
        if name == b"IDAT":
            pixels.append(body[data : end - 4])
        elif name == b"PLTE":
            palette_bytes = length
        elif name == b"IEND":
            facts = _Header(*struct.unpack_from(">IIBBBBB", header))
            draw = partial(_draw, b"".join(kept), pixels, facts, palette_bytes)
            return FirstFrame(facts.width, facts.height, draw, frames, orientation)
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


def _draw(
    file: bytes, pixels: list[bytes], header: _Header, palette_bytes: int, _: int | None
) -> Image.Image:
    if header.colour_type not in CHANNELS:
        raise InvalidImageError(f"The PNG file is damaged: colour type {header.colour_type}.")
    methods = header.compression, header.filters, header.interlaced
    if methods not in METHODS:
        raise InvalidImageError(f"The PNG file is damaged: its methods are {methods}.")
    has_palette = header.colour_type == PALETTE
    if has_palette and (palette_bytes == 0 or palette_bytes % 3 != 0):
        raise InvalidImageError(
            f"The PNG file is damaged: its palette has {palette_bytes} bytes, three for a colour."
        )
    check_inflated(pixels, _raw_bytes(header), "PNG")
    image = open_image(file, "PNG", (header.width, header.height))
    if has_palette:
        check_palette(image, palette_bytes // 3, "PNG")
    return to_rgb(image)


def _raw_bytes(header: _Header) -> int:
    """Return how many bytes the filtered rows have before they are deflated (PNG, 7.2 and 8)."""
    pixel_bits = header.depth * CHANNELS[header.colour_type]
    size = header.width, header.height
    total = 0
    for left, top, across, down in PASSES if header.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(size[0] - left) // across), -(-(size[1] - top) // down)
        if columns > 0:
            total += max(rows, 0) * (1 + (columns * pixel_bits + 7) // 8)
    return total
