"""TIFF: the first page's directory without metadata, in layouts that Pillow decodes correctly."""

from __future__ import annotations

import struct
from itertools import pairwise

from service.api.errors import InvalidImageError, UnsupportedMediaError
from service.images.containers.exif import Entry, byte_order, orientation_among, read_directory
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, FirstFrame

PAGE_KIND, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANES = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
FILL_ORDER, FAX_3_OPTIONS, FAX_4_OPTIONS, PREDICTOR, COLOUR_MAP = 266, 292, 293, 317, 320
EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES = 338, 339, 347
YCBCR_WEIGHTS, SUBSAMPLING, YCBCR_POSITION, BLACK_AND_WHITE = 529, 530, 531, 532

DEFAULTS: dict[int, tuple[int, ...]] = {
    PAGE_KIND: (0,),
    BITS: (1,),
    COMPRESSION: (1,),
    PHOTOMETRIC: (0,),
    SAMPLES: (1,),
    STRIP_ROWS: (2**32 - 1,),
    PLANES: (1,),
    EXTRA_SAMPLES: (),
    SAMPLE_FORMAT: (1,),
    SUBSAMPLING: (2, 2),
}
"""Values of missing tags (TIFF 6.0)."""

MAX_VALUES: dict[int, int] = {
    **dict.fromkeys((PAGE_KIND, WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC), 1),
    **dict.fromkeys((SAMPLES, STRIP_ROWS, PLANES, TILE_WIDTH, TILE_HEIGHT), 1),
    **dict.fromkeys((BITS, EXTRA_SAMPLES, SAMPLE_FORMAT), 8),
    **dict.fromkeys((STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES), 65_536),
    **dict.fromkeys((FILL_ORDER, FAX_3_OPTIONS, FAX_4_OPTIONS, PREDICTOR), 1),
    COLOUR_MAP: 3 * 256,
    JPEG_TABLES: 65_536,
    YCBCR_WEIGHTS: 3,
    SUBSAMPLING: 2,
    YCBCR_POSITION: 1,
    BLACK_AND_WHITE: 6,
}
"""The tags that draw, each with the most values that it may have. Pillow gets no others."""

MAX_SAMPLES = 6
MAX_TILE_PIXELS = 2**24
MAX_JPEG_SCANS, JPEG_SCAN = 4, b"\xff\xda"  # of one strip: one for each of up to four colours
WHITE_IS_ZERO, YCBCR, SEPARATE, UNSIGNED = 0, 6, 2, 1
NOT_COMPRESSED, JPEG = 1, 7
COMPRESSIONS = {NOT_COMPRESSED, JPEG, 2, 3, 4, 5, 8, 32773, 32946}  # fax, LZW, deflate, runs

_BYTES_PER_VALUE = {1: 1, 3: 2, 4: 4, 5: 8, 7: 1}
_INTEGERS = {1: "B", 3: "H", 4: "I"}

_Page = dict[int, tuple[int, ...]]


def read_tiff(body: bytes) -> FirstFrame:
    """Put a new directory behind the file, with the first page's drawing tags only.

    Raises:
        UnsupportedMediaError: a layout that Pillow decodes to wrong pixels, or not at all.
        struct.error: the file is truncated.
    """
    order = byte_order(body)
    assert order is not None, "the signature said TIFF"
    (offset,) = struct.unpack_from(f"{order}I", body, 4)
    entries, following = read_directory(body, offset, order)
    kept = {entry.tag: entry for entry in reversed(entries) if entry.tag in MAX_VALUES}
    page = DEFAULTS | _values(body, kept, order)
    if WIDTH not in page or HEIGHT not in page:
        raise _damaged("it has no size")
    _check_layout(page)
    _check_pieces(page, body)
    return FirstFrame(
        _with_directory(body, [kept[tag] for tag in sorted(kept)], order),
        width=page[WIDTH][0],
        height=page[HEIGHT][0],
        frames=1 + _count_pages(body, following, order),
        orientation=orientation_among(entries, order),
    )


def _values(body: bytes, kept: dict[int, Entry], order: str) -> _Page:
    """Read the integer tags after checking their counts and offsets."""
    values: _Page = {}
    external_bytes = 0
    for tag, (_, kind, count, where) in kept.items():
        size = _BYTES_PER_VALUE.get(kind, 0) * count
        if size == 0 or count > MAX_VALUES[tag]:
            raise _damaged(f"tag {tag} cannot have {count} values of type {kind}")
        external_bytes += size if size > len(where) else 0
        data, start = (where, 0) if size <= 4 else (body, struct.unpack(f"{order}I", where)[0])
        if start + size > len(body) or external_bytes > len(body):
            raise _damaged(f"tag {tag} points outside")
        if kind in _INTEGERS:
            values[tag] = struct.unpack_from(f"{order}{count}{_INTEGERS[kind]}", data, start)
    return values


def _check_layout(page: _Page) -> None:
    (compression,), (colours,), (samples,) = page[COMPRESSION], page[PHOTOMETRIC], page[SAMPLES]
    bits, raw = set(page[BITS]), compression == NOT_COMPRESSED
    subsampled = colours == YCBCR and page[SUBSAMPLING] != (1, 1)
    separate = page[PLANES] == (SEPARATE,) and samples > 1
    refused = {
        f"compression {compression}": compression not in COMPRESSIONS,
        f"{samples} samples a pixel": not 1 <= samples <= MAX_SAMPLES,
        "signed or floating-point samples": set(page[SAMPLE_FORMAT]) != {UNSIGNED},
        "samples of other than 1, 2, 4, 8 or 16 bits": not bits <= {1, 2, 4, 8, 16},
        "16-bit samples that mean white by zero": colours == WHITE_IS_ZERO and 16 in bits,
        "separate planes of alpha": separate and page[EXTRA_SAMPLES],
        "separate planes of 16 bits": separate and raw and bits != {8},
        "subsampled, uncompressed colours": subsampled and raw,
        "a preview as first page (camera raw files)": page[PAGE_KIND][0] & 1,
    }
    for layout, is_present in refused.items():
        if is_present:
            raise UnsupportedMediaError(f"TIFF files with {layout} are not supported.")


def _check_pieces(page: _Page, body: bytes) -> None:
    """Check that strips or tiles cover the page: Pillow leaves missing ones black."""
    tiled = TILE_OFFSETS in page
    if tiled == (STRIP_OFFSETS in page) or tiled != (TILE_WIDTH in page and TILE_HEIGHT in page):
        raise _damaged("it has neither strips nor tiles, or both")
    (width,), (height,), (samples,) = page[WIDTH], page[HEIGHT], page[SAMPLES]
    columns = page[TILE_WIDTH][0] if tiled else width
    rows = page[TILE_HEIGHT][0] if tiled else min(page[STRIP_ROWS][0], height)
    if min(columns, rows) < 1 or (tiled and columns * rows > MAX_TILE_PIXELS):
        raise _damaged("its strips or tiles are empty or too large")
    planes = samples if page[PLANES] == (SEPARATE,) else 1
    down = -(-height // rows)
    needed = -(-width // columns) * down * planes
    offsets = page[TILE_OFFSETS if tiled else STRIP_OFFSETS]
    if len(offsets) != needed:
        raise _damaged(f"it has {len(offsets)} strips or tiles and needs {needed}")
    if page[COMPRESSION] == (NOT_COMPRESSED,):
        last_rows = rows if tiled else height - (down - 1) * rows
        row_bytes = columns * samples // planes * max(page[BITS]) // 8
        _check_gaps(offsets, row_bytes * last_rows)
    else:
        sizes = page.get(TILE_BYTES if tiled else STRIP_BYTES, ())
        _check_compressed(offsets, sizes, body, is_jpeg=page[COMPRESSION] == (JPEG,))


def _check_gaps(offsets: tuple[int, ...], smallest_bytes: int) -> None:
    """Refuse pieces that overlap: Pillow reads each in steps as long as the gap to the next."""
    if any(after - start < smallest_bytes for start, after in pairwise(sorted(set(offsets)))):
        raise _damaged("its strips or tiles overlap")


def _check_compressed(
    offsets: tuple[int, ...], sizes: tuple[int, ...], body: bytes, *, is_jpeg: bool
) -> None:
    """Refuse pieces of impossible size and progressive JPEG (see ``jpeg.MAX_SCANS``)."""
    pieces = set(zip(offsets, sizes, strict=False))
    if len(sizes) != len(offsets) or sum(size for _, size in pieces) > len(body):
        raise _damaged("the sizes of its strips or tiles are wrong")
    for start, size in pieces:
        if is_jpeg and body.count(JPEG_SCAN, start, start + size) > MAX_JPEG_SCANS:
            raise UnsupportedMediaError("TIFF files with progressive JPEG are not supported.")


def _count_pages(body: bytes, offset: int, order: str) -> int:
    """Count the pages from this one on; damage ends the counting, not the request."""
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_FRAMES_COUNTED - 1:
        try:
            (count,) = struct.unpack_from(f"{order}H", body, offset)
            (following,) = struct.unpack_from(f"{order}I", body, offset + 2 + 12 * count)
        except struct.error:
            break
        seen.add(offset)
        offset = following
    return len(seen)


def _with_directory(body: bytes, entries: list[Entry], order: str) -> bytes:
    padding = b"\0" * (len(body) % 2)
    start = struct.pack(f"{order}I", len(body) + len(padding))
    directory = [struct.pack(f"{order}HHI4s", *entry) for entry in entries]
    count, no_next = struct.pack(f"{order}H", len(entries)), b"\0\0\0\0"
    return b"".join((body[:4], start, memoryview(body)[8:], padding, count, *directory, no_next))


def _damaged(reason: str) -> InvalidImageError:
    return InvalidImageError(f"The TIFF file is damaged or truncated: {reason}.")
