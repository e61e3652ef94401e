"""Strips and tiles of a TIFF page: whether they are all there, and whole.

Pillow and libtiff leave pixels black, or as they were, where a strip ends early: of uncompressed,
fax and JPEG strips without an error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from service.api.errors import InvalidImageError, UnsupportedMediaError
from service.images.containers.deflate import check_inflated
from service.images.containers.jpeg import END_OF_IMAGE_BYTES, START_OF_IMAGE, read_jpeg

NOT_COMPRESSED, JPEG = 1, 7
DEFLATE = frozenset({8, 32946})

MAX_JPEG_SCANS, JPEG_SCAN = 4, b"\xff\xda"  # of one strip: one for each of up to four colours

MAX_JPEG_SURPLUS = 64
"""Rows and columns by which the JPEG file in a strip may be larger than the strip."""

_STRIPES = "011111" * 8  # two white pixels, two black ones, and so on
_END_OF_LINE = "000000000001"
# A line has a tag behind its end-of-line code where some lines are two-dimensional.
_GROUP_3 = _STRIPES + f"{_END_OF_LINE}{_STRIPES}{_END_OF_LINE}1{_STRIPES}" * 8
_GROUP_4 = "001011111" * 16  # stripes in horizontal mode
FILLERS = {
    compression: int(bits, 2).to_bytes(-(-len(bits) // 8), "big")
    for compression, bits in {2: _GROUP_3, 3: _GROUP_3, 4: _GROUP_4}.items()
}
"""Fax code that draws something. Where the code ends, libtiff leaves the rest of the page white, or
as it was."""


class Pieces(NamedTuple):
    """The strips or tiles of a page.

    Attributes:
        compression: TIFF's number for it.
        columns: of a piece, pixels.
        rows: of a piece, pixels.
        offsets: of each piece, in bytes.
        sizes: of each piece, in bytes; empty if the file does not say.
        unpacked_sizes: bytes of each piece without its compression.
        jpeg_tables: tables that all pieces share.
    """

    compression: int
    columns: int
    rows: int
    offsets: Sequence[int]
    sizes: Sequence[int]
    unpacked_sizes: Sequence[int]
    jpeg_tables: bytes


def check_places(pieces: Pieces, body: bytes) -> None:
    """Check that each piece lies within the file, and how long it is if that says enough.

    Raises:
        InvalidImageError: a piece is missing, short or overlaps others.
        UnsupportedMediaError: the pieces are progressive JPEG (see ``jpeg.MAX_SCANS``).
    """
    raw = pieces.compression == NOT_COMPRESSED
    sizes = pieces.sizes or (pieces.unpacked_sizes if raw else ())
    if len(sizes) != len(pieces.offsets):
        raise damaged("the sizes of its strips or tiles are wrong")
    together = sum(size for _, size in set(zip(pieces.offsets, sizes, strict=True)))
    if not raw and together > len(body):
        raise damaged("the sizes of its strips or tiles are wrong")
    if raw:
        _check_gaps(pieces.offsets, min(pieces.unpacked_sizes))
        for stated, needed in zip(sizes, pieces.unpacked_sizes, strict=True):
            if stated < needed:
                raise damaged(f"a strip or tile has {stated} bytes and needs {needed}")
        sizes = pieces.unpacked_sizes
    for offset, size in zip(pieces.offsets, sizes, strict=True):
        if offset + size > len(body):
            raise damaged("a strip or tile lies outside of it")
        scans = body.count(JPEG_SCAN, offset, offset + size) if pieces.compression == JPEG else 0
        if scans > MAX_JPEG_SCANS:
            raise UnsupportedMediaError("TIFF files with progressive JPEG are not supported.")


def _check_gaps(offsets: Sequence[int], smallest_bytes: int) -> None:
    """Refuse pieces that overlap: Pillow reads each in steps as long as the gap to the next."""
    if any(after - start < smallest_bytes for start, after in pairwise(sorted(set(offsets)))):
        raise damaged("its strips or tiles overlap")


def check_contents(pieces: Pieces, body: bytes) -> None:
    """Check that each piece holds all of its pixels, where libtiff does not.

    Raises:
        InvalidImageError: a piece is cut or damaged.
        UnsupportedMediaError: a JPEG piece of a kind that is not decoded.
    """
    if pieces.compression in DEFLATE:
        for offset, size, needed in _distinct(pieces):
            check_inflated([body[offset : offset + size]], needed, "TIFF")
    elif pieces.compression == JPEG:
        tables = pieces.jpeg_tables.removesuffix(END_OF_IMAGE_BYTES)
        whole_bytes = max(pieces.unpacked_sizes)
        for offset, size, needed in _distinct(pieces):
            strip = body[offset : offset + size]
            file = tables + strip.removeprefix(START_OF_IMAGE) if tables else strip
            try:
                frame = read_jpeg(file)
            except (struct.error, IndexError) as error:
                raise damaged("the JPEG file in a strip or tile is truncated") from error
            # The last strip may have fewer rows. libtiff leaves missing ones as they were.
            rows = pieces.rows * needed // whole_bytes
            surplus = frame.width - pieces.columns, frame.height - rows
            if min(surplus) < 0 or max(surplus) > MAX_JPEG_SURPLUS:
                raise damaged(
                    f"a strip or tile holds {frame.width} x {frame.height} pixels and needs "
                    f"{pieces.columns} x {rows}"
                )
            frame.draw(None)


def _distinct(pieces: Pieces) -> set[tuple[int, int, int]]:
    return set(zip(pieces.offsets, pieces.sizes, pieces.unpacked_sizes, strict=True))


def with_filler(pieces: Pieces, body: bytes) -> tuple[bytes, list[int], list[int]]:
    """Return the file with a copy of each piece at its end, with fax code behind it.

    Returns:
        The file, and the offsets and sizes of the copies.
    """
    filler = FILLERS[pieces.compression]
    copies = [
        body[offset : offset + size] + filler
        for offset, size in zip(pieces.offsets, pieces.sizes, strict=True)
    ]
    offsets, position = [], len(body)
    for copy in copies:
        offsets.append(position)
        position += len(copy)
    return b"".join((body, *copies)), offsets, [len(copy) for copy in copies]


def damaged(reason: str) -> InvalidImageError:
    """Return the error for a file that contradicts itself."""
    return InvalidImageError(f"The TIFF file is damaged or truncated: {reason}.")
