"""TIFF: the first page's directory without metadata, in layouts that Pillow decodes correctly."""

from __future__ import annotations

import struct
from functools import partial
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from service.api.errors import UnsupportedMediaError
from service.images.containers.exif import (
    Entry,
    Form,
    directory_span,
    form_of,
    orientation_among,
    read_directory,
)
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, FirstFrame
from service.images.containers.tiff_pieces import (
    FILLERS,
    JPEG,
    NOT_COMPRESSED,
    Pieces,
    check_contents,
    check_places,
    damaged,
    with_filler,
)
from service.images.pillow import open_image, to_rgb

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
WHITE_IS_ZERO, INDEXED, YCBCR, SEPARATE, UNSIGNED = 0, 3, 6, 2, 1
COMPRESSIONS = {NOT_COMPRESSED, JPEG, 2, 3, 4, 5, 8, 32773, 32946}  # fax, LZW, deflate, runs
COLOURS = {0, 1, 2, INDEXED, 5, YCBCR, 8}  # grey, RGB, palette, CMYK, YCbCr, CIE L*a*b*

LONG, LONG_8 = 4, 16
_BYTES_PER_VALUE = {1: 1, 3: 2, LONG: 4, 5: 8, 7: 1, LONG_8: 8}
_INTEGERS = {1: "B", 3: "H", LONG: "I", LONG_8: "Q"}

_Page = dict[int, tuple[int, ...]]


class _Tag(NamedTuple):
    """A tag with its values' bytes, in the file's byte order."""

    kind: int
    values: int
    data: bytes


def read_tiff(body: bytes) -> FirstFrame:
    """Put a new directory behind the file, with the first page's drawing tags only.

    Raises:
        UnsupportedMediaError: a layout that Pillow decodes to wrong pixels, or not at all.
        InvalidImageError: the file is damaged.
        struct.error: the file is truncated.
    """
    form = form_of(body)
    assert form is not None, "the signature said TIFF"
    (offset,) = struct.unpack_from(form.order + form.offset, body, form.first_at)
    entries, following = read_directory(body, offset, form)
    tags = _tags(body, entries, form)
    page = DEFAULTS | _integers(tags, form)
    if WIDTH not in page or HEIGHT not in page:
        raise damaged("it has no size")
    _check_layout(page)
    pieces = _pieces(page, tags)
    check_places(pieces, body)
    size = page[WIDTH][0], page[HEIGHT][0]
    return FirstFrame(
        *size,
        draw=partial(_draw, body, tags, form, pieces, size),
        frames=1 + _count_pages(body, following, form),
        orientation=orientation_among(entries, form.order),
    )


def _tags(body: bytes, entries: list[Entry], form: Form) -> dict[int, _Tag]:
    """Read the tags that draw, the first of each, after checking their counts and offsets."""
    tags: dict[int, _Tag] = {}
    external_bytes = 0
    for tag, kind, count, where in entries:
        if tag not in MAX_VALUES or tag in tags:
            continue
        size = _BYTES_PER_VALUE.get(kind, 0) * count
        data, start = where, 0
        if size > len(where):
            (start,) = struct.unpack(form.order + form.offset, where)
            data = body
            external_bytes += size
        if start + size > len(data) or external_bytes > len(body):
            raise damaged(f"tag {tag} points outside")
        if size == 0:
            raise damaged(f"tag {tag} cannot have {count} values of type {kind}")
        if count > MAX_VALUES[tag]:
            raise UnsupportedMediaError(
                f"TIFF files with {count} values in tag {tag} are not supported; the limit is "
                f"{MAX_VALUES[tag]}."
            )
        tags[tag] = _classic(_Tag(kind, count, data[start : start + size]), form)
    return tags


def _classic(tag: _Tag, form: Form) -> _Tag:
    """Write BigTIFF's 64-bit integers with 32 bits."""
    if tag.kind != LONG_8:
        return tag
    numbers = struct.unpack(f"{form.order}{tag.values}Q", tag.data)
    if max(numbers) >= 2**32:
        raise damaged("it states a number far beyond its size")
    return _Tag(LONG, tag.values, struct.pack(f"{form.order}{tag.values}I", *numbers))


def _integers(tags: dict[int, _Tag], form: Form) -> _Page:
    return {
        number: struct.unpack(f"{form.order}{tag.values}{_INTEGERS[tag.kind]}", tag.data)
        for number, tag in tags.items()
        if tag.kind in _INTEGERS
    }


def _check_layout(page: _Page) -> None:
    (compression,), (colours,), (samples,) = page[COMPRESSION], page[PHOTOMETRIC], page[SAMPLES]
    bits, raw = set(page[BITS]), compression == NOT_COMPRESSED
    subsampled = colours == YCBCR and page[SUBSAMPLING] != (1, 1)
    separate = page[PLANES] == (SEPARATE,) and samples > 1
    refused = {
        f"compression {compression}": compression not in COMPRESSIONS,
        f"photometric interpretation {colours}": colours not in COLOURS,
        f"{samples} samples a pixel": not 1 <= samples <= MAX_SAMPLES,
        "signed or floating-point samples": set(page[SAMPLE_FORMAT]) != {UNSIGNED},
        "samples of other than 1, 2, 4, 8 or 16 bits": not bits <= {1, 2, 4, 8, 16},
        "palettes of 16 bits": colours == INDEXED and 16 in bits,
        "16-bit samples that mean white by zero": colours == WHITE_IS_ZERO and 16 in bits,
        "separate planes of alpha": separate and page[EXTRA_SAMPLES],
        "separate planes of 16 bits": separate and raw and bits != {8},
        "subsampled, uncompressed colours": subsampled and raw,
        "a preview as first page (camera raw files)": page[PAGE_KIND][0] & 1,
    }
    for layout, is_present in refused.items():
        if is_present:
            raise UnsupportedMediaError(f"TIFF files with {layout} are not supported.")


def _pieces(page: _Page, tags: dict[int, _Tag]) -> Pieces:
    """Return the page's strips or tiles: Pillow leaves missing ones black."""
    tiled = TILE_OFFSETS in page
    if tiled == (STRIP_OFFSETS in page) or tiled != (TILE_WIDTH in page and TILE_HEIGHT in page):
        raise damaged("it has neither strips nor tiles, or both")
    (width,), (height,), (samples,) = page[WIDTH], page[HEIGHT], page[SAMPLES]
    columns = page[TILE_WIDTH][0] if tiled else width
    rows = page[TILE_HEIGHT][0] if tiled else min(page[STRIP_ROWS][0], height)
    if min(columns, rows) < 1 or (tiled and columns * rows > MAX_TILE_PIXELS):
        raise damaged("its strips or tiles are empty or too large")
    planes = samples if page[PLANES] == (SEPARATE,) else 1
    down = -(-height // rows)
    needed = -(-width // columns) * down * planes
    offsets = page[TILE_OFFSETS if tiled else STRIP_OFFSETS]
    if len(offsets) != needed:
        raise damaged(f"it has {len(offsets)} strips or tiles and needs {needed}")
    palette_values = 3 * 2 ** page[BITS][0]
    if page[PHOTOMETRIC] == (INDEXED,) and len(page.get(COLOUR_MAP, ())) < palette_values:
        raise damaged(f"its palette has not {palette_values} values")
    row_bytes = (columns * samples // planes * max(page[BITS]) + 7) // 8
    unpacked_sizes = [rows * row_bytes] * needed
    if not tiled:
        last_bytes = (height - (down - 1) * rows) * row_bytes
        unpacked_sizes[down - 1 :: down] = [last_bytes] * planes
    return Pieces(
        compression=page[COMPRESSION][0],
        columns=columns,
        rows=rows,
        offsets=offsets,
        sizes=page.get(TILE_BYTES if tiled else STRIP_BYTES, ()),
        unpacked_sizes=unpacked_sizes,
        jpeg_tables=tags[JPEG_TABLES].data if JPEG_TABLES in tags else b"",
    )


def _draw(
    body: bytes,
    tags: dict[int, _Tag],
    form: Form,
    pieces: Pieces,
    size: tuple[int, int],
    _: int | None,
) -> Image.Image:
    check_contents(pieces, body)
    try:
        image = open_image(_with_directory(body, tags, form), "TIFF", size)
    except UnidentifiedImageError as error:
        raise UnsupportedMediaError(
            "TIFF files with this combination of colours, bits and samples are not supported."
        ) from error
    if pieces.compression in FILLERS:
        # An intact strip ends before the filler, so the pixels are the same.
        filled, offsets, sizes = with_filler(pieces, body)
        tiled = TILE_OFFSETS in tags
        places = {TILE_OFFSETS if tiled else STRIP_OFFSETS: offsets}
        places[TILE_BYTES if tiled else STRIP_BYTES] = sizes
        moved = {
            tag: _Tag(LONG, len(numbers), struct.pack(f"{form.order}{len(numbers)}I", *numbers))
            for tag, numbers in places.items()
        }
        if open_image(_with_directory(filled, tags | moved, form), "TIFF", size) != image:
            raise damaged("a strip or tile ends early")
    return to_rgb(image)


def _count_pages(body: bytes, offset: int, form: Form) -> int:
    """Count the pages from this one on; damage ends the counting, not the request."""
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MAX_FRAMES_COUNTED - 1:
        try:
            _, _, following = directory_span(body, offset, form)
        except struct.error:
            break
        seen.add(offset)
        offset = following
    return len(seen)


def _with_directory(body: bytes, tags: dict[int, _Tag], form: Form) -> bytes:
    """Return a classic TIFF file with these tags alone."""
    order = form.order
    padding = b"\0" * (len(body) % 2)
    start = len(body) + len(padding)
    values_at = start + 2 + 12 * len(tags) + 4
    entries, values = [struct.pack(f"{order}H", len(tags))], b""
    for number, tag in sorted(tags.items()):
        where = tag.data.ljust(4, b"\0")
        if len(where) > 4:
            where = struct.pack(f"{order}I", values_at + len(values))
            values += tag.data + b"\0" * (len(tag.data) % 2)
        entries.append(struct.pack(f"{order}HHI4s", number, tag.kind, tag.values, where))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}I", start)
    no_next = b"\0\0\0\0"
    return b"".join((head, memoryview(body)[8:], padding, *entries, no_next, values))
