"""BMP: rows of palette indices or of colours in bit masks, decoded here.

Pillow knows few masks, reads palettes of fewer colours than the pixels have, and decodes run
lengths a byte at a time.

Source: https://learn.microsoft.com/windows/win32/gdi/bitmap-storage and bitmap-compression.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.api.errors import InvalidImageError, UnsupportedMediaError
from service.images.containers.bmp_runs import run_length_indices
from service.images.containers.first_frame import FirstFrame
from service.images.pillow import check_palette, to_rgb

FILE_HEADER_BYTES, OS2_HEADER_BYTES, HEADER_BYTES, MASKED_HEADER_BYTES = 14, 12, 40, 56
OS2_2_HEADER_BYTES = 64
NOT_COMPRESSED, RUNS_8, RUNS_4, BIT_FIELDS, ALPHA_BIT_FIELDS = 0, 1, 2, 3, 6
RUN_DEPTHS = {RUNS_8: 8, RUNS_4: 4}
REFUSED_COMPRESSIONS = {4: "JPEG inside", 5: "PNG inside", **dict.fromkeys((11, 12, 13), "CMYK")}
PALETTE_MODES = {1: "P;1", 2: "P;2", 4: "P;4", 8: "P"}
"""Depths of palette indices, with Pillow's names for them."""

Masks = tuple[int, int, int, int]
DEFAULT_MASKS: dict[int, Masks] = {
    16: (0x7C00, 0x3E0, 0x1F, 0),
    24: (0, 0, 0, 0),
    32: (0xFF0000, 0xFF00, 0xFF, 0),
}
"""Bits of red, green, blue and alpha where a file states none."""

STRIP_PIXELS = 1 << 20
"""Pixels converted at a time."""


class _Layout(NamedTuple):
    width: int
    height: int
    top_down: bool
    depth: int
    compression: int
    pixels_at: int
    palette_at: int
    palette_entry_bytes: int
    colours: int
    masks: Masks


def read_bmp(body: bytes) -> FirstFrame:
    """Read the header.

    Raises:
        UnsupportedMediaError: an intact kind of BMP that is not decoded.
        struct.error: the file is truncated.
    """
    layout = _layout(body)
    _check_kind(layout, body)
    return FirstFrame(layout.width, layout.height, partial(_draw, body, layout))


def _layout(body: bytes) -> _Layout:
    pixels_at, header_bytes = struct.unpack_from("<II", body, 10)
    after = FILE_HEADER_BYTES + header_bytes
    if header_bytes == OS2_HEADER_BYTES:
        width, height, _, depth = struct.unpack_from("<4H", body, 18)
        compression, colours, masks = NOT_COMPRESSED, 0, DEFAULT_MASKS.get(depth, (0, 0, 0, 0))
    else:
        width, height, _, depth, compression, _, _, _, colours, _ = struct.unpack_from(
            "<iiHHIIiiII", body, 18
        )
        masks = DEFAULT_MASKS.get(depth, (0, 0, 0, 0))
        if compression in (BIT_FIELDS, ALPHA_BIT_FIELDS):
            has_alpha = header_bytes >= MASKED_HEADER_BYTES or compression == ALPHA_BIT_FIELDS
            stated = struct.unpack_from("<4I" if has_alpha else "<3I", body, 54)
            # All zero: blue, green, red and alpha, a byte each.
            masks = (*stated, 0)[:4] if any(stated) else (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
            if header_bytes == HEADER_BYTES:
                after += 4 * len(stated)
    if depth in PALETTE_MODES:
        colours = min(colours or 2**depth, 2**depth)
    entry_bytes = 3 if header_bytes == OS2_HEADER_BYTES else 4
    return _Layout(
        width=width,
        height=abs(height),
        top_down=height < 0,
        depth=depth,
        compression=compression,
        pixels_at=pixels_at,
        palette_at=after,
        palette_entry_bytes=entry_bytes,
        # A palette that the pixels overlap ends where they begin.
        colours=min(colours, max(pixels_at - after, 0) // entry_bytes),
        masks=masks,
    )


def _check_kind(layout: _Layout, body: bytes) -> None:
    (header_bytes,) = struct.unpack_from("<I", body, FILE_HEADER_BYTES)
    compression, depth = layout.compression, layout.depth
    kind = None
    if OS2_HEADER_BYTES < header_bytes < HEADER_BYTES:
        kind = f"a header of {header_bytes} bytes"
    elif header_bytes == OS2_2_HEADER_BYTES and compression in (3, 4):
        kind = "OS/2's own compression"
    elif compression in REFUSED_COMPRESSIONS:
        kind = REFUSED_COMPRESSIONS[compression]
    elif depth == 64:
        kind = "64 bits a pixel"
    if kind is not None:
        raise UnsupportedMediaError(f"BMP files with {kind} are not supported.")
    is_known = (
        RUN_DEPTHS[compression] == depth
        if compression in RUN_DEPTHS
        else compression in (NOT_COMPRESSED, BIT_FIELDS, ALPHA_BIT_FIELDS)
        and depth in PALETTE_MODES.keys() | DEFAULT_MASKS.keys()
    )
    if header_bytes < OS2_HEADER_BYTES or layout.pixels_at < FILE_HEADER_BYTES + header_bytes:
        raise InvalidImageError("The BMP file is damaged: its pixels begin within its header.")
    if not is_known:
        raise InvalidImageError(
            f"The BMP file is damaged: {depth} bits a pixel with compression {compression}."
        )


def _draw(body: bytes, layout: _Layout, _: int | None) -> Image.Image:
    size = layout.width, layout.height
    if layout.compression in RUN_DEPTHS:
        runs = memoryview(body)[layout.pixels_at :]
        indices, drawn = run_length_indices(runs, *size, layout.depth)
        orientation = 1 if layout.top_down else -1
        rgb = _coloured(
            Image.frombytes("P", size, indices, "raw", "P", 0, orientation), body, layout
        )
        mask = Image.frombytes("L", size, drawn, "raw", "L", 0, orientation)
        return Image.composite(rgb, Image.new("RGB", size, "white"), mask)
    row_bytes = (layout.width * layout.depth + 31) // 32 * 4
    needed_bytes = row_bytes * layout.height
    pixels = memoryview(body)[layout.pixels_at : layout.pixels_at + needed_bytes]
    if len(pixels) < needed_bytes:
        raise InvalidImageError(
            f"The BMP file is truncated: its pixels are {needed_bytes} bytes, and it holds "
            f"{len(pixels)}."
        )
    rows = (row_bytes, 1 if layout.top_down else -1)
    if layout.depth in PALETTE_MODES:
        mode = PALETTE_MODES[layout.depth]
        return _coloured(Image.frombytes("P", size, pixels, "raw", mode, *rows), body, layout)
    if layout.depth == 24 or layout.masks == DEFAULT_MASKS[32]:
        mode = "BGR" if layout.depth == 24 else "BGRX"
        return Image.frombytes("RGB", size, pixels, "raw", mode, *rows)
    words = np.frombuffer(pixels, f"<u{layout.depth // 8}")
    return _masked(words.reshape(layout.height, -1)[:: rows[1]], layout)


def _coloured(indices: Image.Image, body: bytes, layout: _Layout) -> Image.Image:
    if layout.colours == 0:
        raise InvalidImageError("The BMP file is damaged: it has no palette.")
    check_palette(indices, layout.colours, "BMP")
    size = layout.colours * layout.palette_entry_bytes
    entries = np.frombuffer(body, np.uint8, size, layout.palette_at)
    colours = entries.reshape(layout.colours, layout.palette_entry_bytes)[:, 2::-1]
    indices.putpalette(colours.tobytes())
    return indices.convert("RGB")


def _masked(words: NDArray[np.unsignedinteger], layout: _Layout) -> Image.Image:
    channels = 3 + (layout.masks[3] != 0)
    pixels = np.empty((layout.height, layout.width, channels), np.uint8)
    strip_rows = max(1, STRIP_PIXELS // layout.width)
    for top in range(0, layout.height, strip_rows):
        rows = slice(top, top + strip_rows)
        for channel, mask in enumerate(layout.masks[:channels]):
            pixels[rows, :, channel] = _scaled(words[rows, : layout.width], mask)
    return to_rgb(Image.fromarray(pixels))


def _scaled(words: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    """Stretch the bits under a mask to 0 to 255, rounded down as Pillow does."""
    mask %= 2 ** (8 * words.itemsize)
    lowest = mask & -mask
    if lowest == 0:
        return np.zeros(words.shape, np.uint8)
    levels, highest = (words & mask) // lowest, mask // lowest
    return (levels.astype(np.uint64) * 255 // highest).astype(np.uint8)
