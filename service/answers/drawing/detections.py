"""Detections drawn on their image: masks, boxes and tags in the colours of their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.images.masks import BoxedMask, paste_mask
from service.answers.drawing.canvas import canvas_of, encode_png, line_width, paint_regions
from service.answers.drawing.tags import Rectangle, Tag, draw_tag, shortened, text_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.labels.tables import Color

MAX_DRAWN = 255
"""Maximum number of drawn detections, best first: a byte holds the index of a pixel's detection."""


@dataclass(frozen=True)
class DrawnDetection:
    """One detection as it is drawn.

    Attributes:
        class_id: the class.
        score: 0 to 1.
        box: x1 y1 x2 y2, pixels of the image.
        parts: masks as the network gives them; none draw the box alone. They are pasted one by
            one, so that only one at a time has the image's size.
    """

    class_id: int
    score: float
    box: tuple[float, float, float, float]
    parts: Sequence[BoxedMask]


def detections_png(
    image: Image.Image,
    detections: Sequence[DrawnDetection],
    palette: Sequence[Color],
    labels: Sequence[str],
    *,
    raise_if_cancelled: Callable[[], None],
) -> bytes:
    """Draw detections on their image, the best on top.

    Args:
        image: RGB.
        detections: in any order, within the image.
        palette: the classes' colours.
        labels: the classes' names.
        raise_if_cancelled: called before each mask; raises if nobody waits for the picture.

    Returns:
        The file, an RGB PNG of the image's size.
    """
    height, width = image.height, image.width
    best_first = sorted(detections, key=lambda detection: -detection.score)[:MAX_DRAWN]
    colors = [palette[detection.class_id] for detection in best_first]
    canvas = canvas_of(image)
    paint_regions(canvas, _owners(best_first, height, width, raise_if_cancelled), [None, *colors])
    boxes = [_whole_pixels(detection.box, height, width) for detection in best_first]
    line = line_width(height, width)
    for box, color in zip(reversed(boxes), reversed(colors), strict=True):
        _draw_frame(canvas, box, color, line)
    size = text_pixels(height, width)
    tags = [
        Tag(f"{shortened(labels[detection.class_id])} {100 * detection.score:.0f} %", color, size)
        for detection, color in zip(best_first, colors, strict=True)
    ]
    places = place_beside(boxes, [tag.size for tag in tags], height, width)
    for tag, place in zip(tags, places, strict=True):
        if place is not None:
            draw_tag(canvas, tag, place.left, place.top)
    return encode_png(canvas)


def place_beside(
    boxes: Sequence[Rectangle], sizes: Sequence[tuple[int, int]], height: int, width: int
) -> list[Rectangle | None]:
    """Find room for each box's tag, the first boxes first.

    Args:
        boxes: within the image.
        sizes: width and height of each tag, pixels.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        Places within the image that do not overlap; None for a tag that finds no room.
    """
    places: list[Rectangle | None] = []
    taken: list[Rectangle] = []
    for box, size in zip(boxes, sizes, strict=True):
        proposals = _beside(box, *size, image_width=width)
        place = next((place for place in proposals if place.is_free(height, width, taken)), None)
        places.append(place)
        if place is not None:
            taken.append(place)
    return places


def _beside(box: Rectangle, width: int, height: int, image_width: int) -> Iterator[Rectangle]:
    """Propose a tag's places: above the box, inside at its top, below it, inside at its bottom."""
    for top in (box.top - height, box.top, box.bottom, box.bottom - height):
        for left in (box.left, box.right - width):
            left = max(0, min(left, image_width - width))
            yield Rectangle(left, top, left + width, top + height)


def _owners(
    best_first: Sequence[DrawnDetection],
    height: int,
    width: int,
    raise_if_cancelled: Callable[[], None],
) -> NDArray[np.uint8]:
    """Return the number of each pixel's best detection, from 1; 0 for none."""
    owners = np.zeros((height, width), np.uint8)
    for number, detection in reversed(list(enumerate(best_first, start=1))):
        raise_if_cancelled()
        _assign(owners, detection, number)
    return owners


def _assign(owners: NDArray[np.uint8], detection: DrawnDetection, number: int) -> None:
    for part in detection.parts:
        pasted = paste_mask(part.mask, part.box, *owners.shape)
        rows, columns = pasted.pixels.shape
        window = owners[pasted.top : pasted.top + rows, pasted.left : pasted.left + columns]
        np.copyto(window, np.uint8(number), where=pasted.pixels)


def _whole_pixels(box: tuple[float, float, float, float], height: int, width: int) -> Rectangle:
    x1, y1, x2, y2 = box
    left, top = min(max(0, floor(x1)), width), min(max(0, floor(y1)), height)
    right, bottom = max(left, min(ceil(x2), width)), max(top, min(ceil(y2), height))
    return Rectangle(left, top, right, bottom)


def _draw_frame(canvas: NDArray[np.uint8], box: Rectangle, color: Color, line: int) -> None:
    """Draw the box's border, all of it inside."""
    inside = canvas[box.top : box.bottom, box.left : box.right]
    for side in (inside[:line], inside[-line:], inside[:, :line], inside[:, -line:]):
        side[:] = color[::-1]
