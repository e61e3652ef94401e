"""The overlay of a label map: regions in their classes' colours, with their names on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from model.labels.tables import Color
from service.answers.drawing.canvas import canvas_of, encode_png, paint_regions
from service.answers.drawing.tags import Rectangle, Tag, draw_tag, shortened, text_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_TAGS = 24
"""Maximum number of tags on one overlay; the largest regions get them."""

MIN_TAGGED_SHARE = 0.005
"""Share of the image that a region has to cover to be tagged."""

_PLACING_SIDE = 384
"""Longer side, in cells, of the reduced label map on which regions are found and tags placed."""


@dataclass(frozen=True)
class PlacedTag:
    """The place of a class's name."""

    class_id: int
    place: Rectangle


@dataclass(frozen=True)
class _Region:
    """A connected part of one class, on the reduced label map.

    Attributes:
        class_id: the class.
        area: in cells.
        top: the row of ``inside``'s first row.
        left: the column of its first column.
        inside: 1 in the region and 0 elsewhere, (h, w), a margin of one cell around it.
    """

    class_id: int
    area: int
    top: int
    left: int
    inside: NDArray[np.uint8]


def overlay_png(
    image: Image.Image,
    label_map: NDArray[np.uint8],
    palette: Sequence[Color],
    labels: Sequence[str],
    *,
    raise_if_cancelled: Callable[[], None],
) -> bytes:
    """Draw a label map over its image.

    Args:
        image: RGB.
        label_map: class id of each pixel, of the image's size, (H, W).
        palette: the classes' colours.
        labels: the classes' names.
        raise_if_cancelled: called between the steps; raises if nobody waits for the picture.

    Returns:
        The file, an RGB PNG of the image's size.
    """
    height, width = label_map.shape
    raise_if_cancelled()
    canvas = canvas_of(image)
    paint_regions(canvas, label_map, palette)
    size = text_pixels(height, width)
    present = np.flatnonzero(Image.fromarray(label_map).histogram())
    tags = {
        class_id: Tag(shortened(labels[class_id]), palette[class_id], size)
        for class_id in present.tolist()
    }
    sizes = {class_id: tag.size for class_id, tag in tags.items()}
    for placed in place_tags(label_map, sizes):
        draw_tag(canvas, tags[placed.class_id], placed.place.left, placed.place.top)
    raise_if_cancelled()
    return encode_png(canvas)


def place_tags(
    label_map: NDArray[np.uint8], sizes: Mapping[int, tuple[int, int]]
) -> list[PlacedTag]:
    """Find room for the names of the largest regions.

    A tag goes where it is deepest inside its region; on a region that is too thin for it, over the
    middle. No tag covers another: a tag that finds no room is left out.

    Args:
        label_map: class id of each pixel, (H, W).
        sizes: width and height of each class's tag, pixels.
    """
    height, width = label_map.shape
    cell = -(-max(height, width) // _PLACING_SIDE)
    reduced = np.ascontiguousarray(label_map[cell // 2 :: cell, cell // 2 :: cell])
    placed: list[PlacedTag] = []
    for region in sorted(_large_regions(reduced), key=lambda region: -region.area)[:MAX_TAGS]:
        taken = [other.place for other in placed]
        for place in _places(region, sizes[region.class_id], taken, cell):
            within = place.moved_within(height, width)
            if within.is_free(height, width, taken):
                placed.append(PlacedTag(region.class_id, within))
                break
    return placed


def _large_regions(reduced: NDArray[np.uint8]) -> Iterator[_Region]:
    min_area = MIN_TAGGED_SHARE * reduced.size
    for class_id in np.flatnonzero(np.bincount(reduced.ravel()) >= min_area).tolist():
        mask = np.pad(reduced == class_id, 1).astype(np.uint8)
        _, components, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        for component, (left, top, width, height, area) in enumerate(boxes.tolist()):
            # Component 0 is the background.
            if component > 0 and area >= min_area:
                window = components[top - 1 : top + height + 1, left - 1 : left + width + 1]
                inside = (window == component).astype(np.uint8)
                yield _Region(class_id, area, top - 2, left - 2, inside)


def _places(
    region: _Region, size: tuple[int, int], taken: Sequence[Rectangle], cell: int
) -> Iterator[Rectangle]:
    """Propose places: the deepest inside the region, then over the region's middle."""
    width, height = size
    rows, columns = -(-height // cell), -(-width // cell)
    depth = cv2.distanceTransform(region.inside, cv2.DIST_L2, 3)
    room = _without(region, taken, cell)
    # A tag stays a cell away from the border, since a cell is only a sample of its middle pixel.
    # Erosion leaves the top left corners at which all cells of a tag and around it are free.
    around = np.ones((rows + 2, columns + 2), np.uint8)
    tops, lefts = np.nonzero(cv2.erode(room, around, anchor=(1, 1)))
    if len(tops):
        deepest = int(depth[tops + rows // 2, lefts + columns // 2].argmax())
        left = (region.left + int(lefts[deepest])) * cell
        top = (region.top + int(tops[deepest])) * cell
        yield Rectangle(left, top, left + width, top + height)
    if region.area * cell**2 >= width * height:
        row, column = divmod(int(depth.argmax()), depth.shape[1])
        left = round((region.left + column + 0.5) * cell - width / 2)
        top = round((region.top + row + 0.5) * cell - height / 2)
        yield Rectangle(left, top, left + width, top + height)


def _without(region: _Region, taken: Sequence[Rectangle], cell: int) -> NDArray[np.uint8]:
    room = region.inside.copy()
    for place in taken:
        top, left = place.top // cell - region.top, place.left // cell - region.left
        bottom, right = -(-place.bottom // cell) - region.top, -(-place.right // cell) - region.left
        room[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    return room
