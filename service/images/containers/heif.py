"""AVIF and HEIC: the primary picture with its tiles and its transparency, and nothing else.

The decoders get a new file with these items and their sizes, colours and codecs. Crop, rotation
and mirroring are applied here, once; Exif's orientation does not count (ISO/IEC 23008-12).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import NamedTuple

from PIL import Image

from service.api.errors import InvalidImageError, UnsupportedMediaError
from service.images.containers.boxes import Item, child, read_items
from service.images.containers.coded_size import av1_sizes, hevc_sizes, hevc_units
from service.images.containers.first_frame import MAX_FRAMES_COUNTED, FirstFrame
from service.images.containers.heif_writer import written
from service.images.hevc import check_hevc, decode_heic
from service.images.pillow import open_image, to_rgb

MAX_TILES = 1_024
"""Maximum number of tiles of a picture; a telephone's 48 megapixels are 192."""

MAX_CODED_SURPLUS = 128
"""Pixels by which a side that is coded may be longer than the side that is stated."""

CODECS = {"AVIF": b"av01", "HEIC": b"hvc1"}
CONFIGURATIONS = {b"av01": b"av1C", b"hvc1": b"hvcC"}
CROP, ROTATION, MIRROR = b"clap", b"irot", b"imir"
KEPT = frozenset({b"ispe", b"pixi", b"auxC", b"av1C", b"hvcC", b"a1op", b"a1lx", b"lsel"})
KNOWN = KEPT | {CROP, ROTATION, MIRROR, b"colr", b"pasp"}
ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")

# The corners upper left, upper right, lower left and lower right, by EXIF orientation.
_CORNERS = {
    (0, 1, 2, 3): 1,
    (1, 0, 3, 2): 2,
    (3, 2, 1, 0): 3,
    (2, 3, 0, 1): 4,
    (0, 2, 1, 3): 5,
    (2, 0, 3, 1): 6,
    (3, 1, 2, 0): 7,
    (1, 3, 0, 2): 8,
}


_Box = tuple[int, int, int, int]  # left, top, right, bottom


class _Grid(NamedTuple):
    rows: int
    columns: int
    width: int
    height: int


def read_avif(body: bytes) -> FirstFrame:
    """Read an AVIF file; ``read_heif`` has the errors."""
    return read_heif(body, "AVIF")


def read_heic(body: bytes) -> FirstFrame:
    """Read a HEIC file; ``read_heif`` has the errors."""
    return read_heif(body, "HEIC")


def read_heif(body: bytes, format_name: str) -> FirstFrame:
    """Keep the primary picture, its tiles, and the same of its transparency.

    Raises:
        UnsupportedMediaError: an intact kind of file that is not decoded.
        InvalidImageError: the file is damaged.
        struct.error, IndexError: the file is truncated.
    """
    place = child(body, 0, len(body), b"meta")
    if place is None:
        if child(body, 0, len(body), b"moov") is not None:
            raise UnsupportedMediaError(f"{format_name} without a still picture is not supported.")
        raise InvalidImageError(f"The {format_name} file is damaged or truncated: no picture.")
    items, primary = read_items(body, *place)
    picture = items[primary]
    kept = dict(_with_tiles(items, primary))
    alpha = _alpha_of(items, primary)
    if alpha is not None:
        kept |= dict(_with_tiles(items, alpha))
    kept = dict(sorted(kept.items()))  # as ``ipma`` wants them
    canvases = [_canvas(body, kept, number, format_name) for number in kept]
    size = _stated_size(picture)
    crop, orientation = _transformations(picture, size)
    draw = _draw_avif if format_name == "AVIF" else _draw_heic
    return FirstFrame(
        width=crop[2] - crop[0],
        height=crop[3] - crop[1],
        draw=partial(draw, body, kept, primary, crop),
        frames=_frames(body),
        orientation=orientation,
        decoded=(max(width for width, _ in canvases), max(height for _, height in canvases)),
    )


def _with_tiles(items: dict[int, Item], number: int) -> Iterator[tuple[int, Item]]:
    """Yield an item and the tiles that it is put together from."""
    item = items[number]
    yield number, item
    if item.kind != b"grid":
        return
    for tile in item.references.get(b"dimg", ()):
        if tile not in items or items[tile].kind not in CONFIGURATIONS:
            raise InvalidImageError("The file is damaged: a tile of its picture is missing.")
        yield tile, items[tile]


def _alpha_of(items: dict[int, Item], primary: int) -> int | None:
    for number, item in items.items():
        kind = (item.first(b"auxC") or b"")[4:]
        if primary in item.references.get(b"auxl", ()) and kind.startswith(ALPHA):
            return number
    return None


def _canvas(body: bytes, items: dict[int, Item], number: int, format_name: str) -> tuple[int, int]:
    """Check an item and return the size for which it makes the decoder allocate memory."""
    item = items[number]
    width, height = _stated_size(item)
    for unknown in item.properties:
        if unknown.is_essential and unknown.kind not in KNOWN:
            name = unknown.kind.decode("latin-1")
            raise UnsupportedMediaError(f"{format_name} with the property {name} is not supported.")
    if item.kind == b"grid":
        grid = _grid(item.content(body))
        tiles = [items[tile] for tile in item.references.get(b"dimg", ())]
        if (grid.width, grid.height) != (width, height) or len(tiles) != grid.rows * grid.columns:
            raise InvalidImageError(f"The {format_name} file is damaged: its tiles do not fit.")
        tile_sizes = {_stated_size(tile) for tile in tiles}
        columns, rows = min(tile_sizes)
        if len(tile_sizes) != 1 or columns * grid.columns < width or rows * grid.rows < height:
            raise InvalidImageError(f"The {format_name} file is damaged: its tiles do not fit.")
        return columns * grid.columns, rows * grid.rows
    codec = CODECS[format_name]
    if item.kind != codec:
        kind = item.kind.decode("latin-1").strip()
        raise UnsupportedMediaError(f"{format_name} with pictures of type {kind} is not supported.")
    coded = _coded_size(item, item.content(body), format_name)
    if max(coded[0] - width, coded[1] - height) > MAX_CODED_SURPLUS:
        raise _contradiction(coded, (width, height), format_name)
    return width, height


def _coded_size(item: Item, content: bytes, format_name: str) -> tuple[int, int]:
    """Return the largest size that an item's bitstream states."""
    configuration = item.first(CONFIGURATIONS[item.kind])
    if configuration is None:
        raise InvalidImageError(f"The {format_name} file is damaged: its picture has no codec.")
    sizes = list(
        av1_sizes(configuration, content)
        if item.kind == b"av01"
        else hevc_sizes(hevc_units(configuration, content))
    )
    if not sizes:
        raise InvalidImageError(f"The {format_name} file is damaged: its picture has no size.")
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _contradiction(
    coded: tuple[int, int], stated: tuple[int, int], format_name: str
) -> InvalidImageError:
    return InvalidImageError(
        f"The {format_name} file is damaged: it codes {coded[0]} x {coded[1]} pixels and states "
        f"{stated[0]} x {stated[1]}."
    )


def _check_delivered(items: dict[int, Item], contents: dict[int, bytes], format_name: str) -> None:
    """Refuse a picture or tile that is smaller than stated: libavif would enlarge it."""
    for number, item in items.items():
        if item.kind == CODECS[format_name]:
            coded, stated = _coded_size(item, contents[number], format_name), _stated_size(item)
            if coded[0] < stated[0] or coded[1] < stated[1]:
                raise _contradiction(coded, stated, format_name)


def _grid(content: bytes) -> _Grid:
    is_wide = content[1] & 1
    rows, columns, width, height = struct.unpack_from(">BBII" if is_wide else ">BBHH", content, 2)
    if (rows + 1) * (columns + 1) > MAX_TILES:
        raise InvalidImageError(
            f"The picture has {(rows + 1) * (columns + 1)} tiles; the limit is {MAX_TILES}."
        )
    return _Grid(rows + 1, columns + 1, width, height)


def _stated_size(item: Item) -> tuple[int, int]:
    extents = item.first(b"ispe")
    if extents is None:
        raise InvalidImageError("The file is damaged: its picture has no size.")
    width, height = struct.unpack_from(">II", extents, 4)
    return width, height


def _transformations(picture: Item, size: tuple[int, int]) -> tuple[_Box, int]:
    """Return the part of the picture that is shown, and its EXIF orientation."""
    crop = (0, 0, *size)
    corners = (0, 1, 2, 3)
    for kind, data, _ in picture.properties:
        if kind == CROP:
            if corners != (0, 1, 2, 3):
                raise UnsupportedMediaError("A crop behind a rotation is not supported.")
            crop = _cropped(data, size)
        a, b, c, d = corners
        if kind == ROTATION:  # anticlockwise
            corners = ((a, b, c, d), (b, d, a, c), (d, c, b, a), (c, a, d, b))[data[0] & 3]
        elif kind == MIRROR:
            corners = (b, a, d, c) if data[0] & 1 else (c, d, a, b)
    return crop, _CORNERS[corners]


def _cropped(data: bytes, size: tuple[int, int]) -> _Box:
    """Return left, top, right and bottom of a clean aperture (ISO/IEC 14496-12, 12.1.4)."""
    numbers = struct.unpack_from(">IIIIiIiI", data)
    if 0 in numbers[1::2]:
        raise InvalidImageError("The file is damaged: its crop is divided by zero.")
    width, height, right, down = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
    left = (size[0] - width) / 2 + right
    top = (size[1] - height) / 2 + down
    crop = round(left), round(top), round(left + width), round(top + height)
    if min(crop) < 0 or crop[2] > size[0] or crop[3] > size[1]:
        raise InvalidImageError("The file is damaged: its crop is larger than its picture.")
    return crop


def _frames(body: bytes) -> int:
    """Count the samples of the first track, where there is one; damage counts as one frame."""
    try:
        path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
        place = child(body, 0, len(body), *path)
        if place is None:
            return 1
        count = int.from_bytes(body[place[0] + 8 : place[0] + 12], "big")
    except (InvalidImageError, struct.error):
        return 1
    return max(1, min(count, MAX_FRAMES_COUNTED))


def _draw_avif(
    body: bytes,
    items: dict[int, Item],
    primary: int,
    crop: _Box,
    _: int | None,
) -> Image.Image:
    contents = {number: item.content(body) for number, item in items.items()}
    _check_delivered(items, contents, "AVIF")
    file = written(items, contents, primary, KEPT, "AVIF")
    return _shown(open_image(file, "AVIF", _stated_size(items[primary])), crop)


def _draw_heic(
    body: bytes, items: dict[int, Item], primary: int, crop: _Box, _: int | None
) -> Image.Image:
    contents = {number: item.content(body) for number, item in items.items()}
    for number, item in items.items():
        configuration = item.first(CONFIGURATIONS[b"hvc1"])
        if item.kind == b"hvc1" and configuration is not None:
            check_hevc(hevc_units(configuration, contents[number]))
    _check_delivered(items, contents, "HEIC")
    size = _stated_size(items[primary])
    return _shown(decode_heic(written(items, contents, primary, KEPT, "HEIC"), size), crop)


def _shown(image: Image.Image, crop: _Box) -> Image.Image:
    rgb = to_rgb(image)
    return rgb if crop == (0, 0, *rgb.size) else rgb.crop(crop)
