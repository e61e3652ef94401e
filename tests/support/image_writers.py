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


def jpeg_in_scans(
    planes: Sequence[NDArray[np.uint8]], samplings: Sequence[int] = (0x11, 0x11, 0x11)
) -> bytes:
    """Put a JPEG file together that has a scan for each colour.

    Args:
        planes: brightness, blueness and redness; each a whole number of blocks, or all of one size.
        samplings: of each plane, as the frame's header states it.
    """
    files = [encoded(plane, "JPEG", quality=98) for plane in planes]
    first = files[0]
    frame, scan = first.index(b"\xff\xc0"), first.index(b"\xff\xda")
    height, width = planes[0].shape
    components = b"".join(bytes([n, s, 0]) for n, s in enumerate(samplings, 1))
    header = struct.pack(">HHBHHB", 0xFFC0, 17, 8, height, width, 3) + components
    after = frame + 2 + int.from_bytes(first[frame + 2 : frame + 4], "big")
    pieces = [first[:frame], header, first[after:scan]]
    for number, file in enumerate(files, 1):
        start = file.index(b"\xff\xda")
        pieces.append(file[start : start + 5] + bytes([number]) + file[start + 6 : -2])
    return b"".join(pieces) + b"\xff\xd9"


def gif_file(
    levels: NDArray[np.uint8],
    palette: NDArray[np.uint8] | None,
    *,
    screen: tuple[int, int] | None = None,
    place: tuple[int, int] = (0, 0),
    transparent: int | None = None,
    pixels: int | None = None,
) -> bytes:
    """Put a GIF file of one image together, uncompressed.

    Args:
        levels: palette indices, (H, W).
        palette: 2, 4, ... or 256 colours; None for no palette at all.
        screen: width and height; by default the image's.
        place: of the image on the screen, column and row.
        transparent: a palette index.
        pixels: how many of them are written; by default all.
    """
    height, width = levels.shape
    flags = 0 if palette is None else 0x80 | (len(palette).bit_length() - 2)
    head = b"GIF89a" + struct.pack("<HHBBB", *(screen or (width, height)), flags, 0, 0)
    head += b"" if palette is None else palette.tobytes()
    if transparent is not None:
        head += b"!\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
    clear, codes = 256, [256]
    for number, level in enumerate(levels.reshape(-1).tolist()[:pixels]):
        # Codes stay nine bits long as long as the table is cleared often.
        codes += [clear, level] if number % 200 == 199 else [level]
    codes.append(clear + 1)
    bits = sum(code << 9 * number for number, code in enumerate(codes))
    data = bits.to_bytes(-(-9 * len(codes) // 8), "little")
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    image = b"," + struct.pack("<4HBB", *place, width, height, 0, 8)
    return head + image + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0;"


def webp_animation(
    pixels: NDArray[np.uint8], *, canvas: tuple[int, int], place: tuple[int, int], flags: int
) -> bytes:
    """Put an animated WebP file of one frame together.

    Args:
        pixels: the frame, (H, W, 3).
        canvas: width and height.
        place: even column and row of the frame.
        flags: 0x02 for an animation, with 0x10 for transparency.
    """

    def three(number: int) -> bytes:
        return number.to_bytes(3, "little")

    still = encoded(pixels, "WEBP", lossless=True)[12:]
    height, width = pixels.shape[:2]
    corner = three(place[0] // 2) + three(place[1] // 2)
    frame = corner + three(width - 1) + three(height - 1) + bytes(4) + still
    chunks = {
        b"VP8X": bytes([flags, 0, 0, 0]) + three(canvas[0] - 1) + three(canvas[1] - 1),
        b"ANIM": b"\xff\0\0\xff\0\0",
        b"ANMF": frame,
    }
    body = b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks.items())
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
