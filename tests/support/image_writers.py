"""Writers of image files: Pillow where it can write them, byte by byte otherwise."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def exif(orientation: int) -> bytes:
    """Return EXIF data that state an orientation and nothing else."""
    entry = struct.pack(">HHIHH", 274, 3, 1, orientation, 0)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + b"\0\0\0\0"


def encoded(pixels: NDArray[Any] | Image.Image, format_name: str, **options: Any) -> bytes:
    """Let Pillow write a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_file(
    width: int,
    height: int,
    rows: Sequence[bytes],
    *,
    depth: int = 8,
    colour_type: int = 2,
    chunks: Sequence[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """Put a PNG file together from packed rows, which get filter type 0.

    Args:
        width: pixels.
        height: pixels.
        rows: of all passes, if interlaced.
        depth: bits per sample.
        colour_type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        chunks: name and data of those between header and pixels.
        interlaced: what the header says.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    every = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, data) for name, data in every)


def packed(levels: NDArray[Any], depth: int) -> list[bytes]:
    """Pack each row of (H, W) or (H, W, C) samples of 1, 2, 4, 8 or 16 bits, high bits first."""
    flat = levels.reshape(len(levels), -1)
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in flat]
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits]


def tiff_file(
    width: int,
    height: int,
    strips: Sequence[bytes],
    tags: Mapping[int, Sequence[int]],
    *,
    order: Literal["<", ">"] = "<",
    offsets_tag: int = 273,
) -> bytes:
    """Put a TIFF file together.

    Args:
        width: pixels.
        height: pixels.
        strips: or tiles, packed, and compressed as the tags say.
        tags: values by tag; written as 16-bit numbers.
        order: ``<`` or ``>``.
        offsets_tag: 273 for strips, 324 for tiles; the byte counts' tag follows from it.
    """
    padded = [strip + b"\0" * (len(strip) % 2) for strip in strips]
    data, offsets = b"".join(padded), list(accumulate(map(len, padded), initial=8))[:-1]
    counts_tag = {273: 279, 324: 325}[offsets_tag]
    counts = [len(strip) for strip in strips]
    shorts: dict[int, Sequence[int]] = {256: [width], 257: [height], 258: [8], 259: [1], 262: [1]}
    values = {**shorts, 277: [1], 284: [1], **tags, offsets_tag: offsets, counts_tag: counts}
    if offsets_tag == 273:
        values.setdefault(278, [height])
    directory = 8 + len(data)
    beside_start = directory + 2 + 12 * len(values) + 4
    entries, beside = b"", b""
    for tag, numbers in sorted(values.items()):
        kind, letter = (4, "I") if tag in (offsets_tag, counts_tag) else (3, "H")
        packed_numbers = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        where = packed_numbers.ljust(4, b"\0")
        if len(packed_numbers) > 4:
            where = struct.pack(f"{order}I", beside_start + len(beside))
            beside += packed_numbers
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + where
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    count = struct.pack(f"{order}H", len(values))
    return magic + struct.pack(f"{order}I", directory) + data + count + entries + b"\0" * 4 + beside


def bmp_file(
    width: int,
    height: int,
    rows: Sequence[bytes],
    *,
    depth: int,
    compression: int = 0,
    palette: bytes = b"",
    masks: Sequence[int] = (),
) -> bytes:
    """Put a BMP file together; a negative height means rows from top to bottom."""
    pixels = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    # Four masks belong to the header (version 4); three follow it.
    header_bytes = 108 if len(masks) == 4 else 40
    after = struct.pack(f"<{len(masks)}I", *masks).ljust(header_bytes - 40, b"\0") + palette
    fields = (header_bytes, width, height, 1, depth, compression, len(pixels), 0, 0)
    info = struct.pack("<IiiHHIIiiII", *fields, len(palette) // 4, 0) + after
    start = 14 + len(info)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + pixels
