"""Class maps drawn over their image, each with its scale.

Within the part that a map covers the image is grey, so that every colour is the map's. The map is
interpolated linearly between the middles of its cells: the drawing has no edge that the grid does
not have. Outside of that part the image stays as it is, behind a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from service.answers.drawing.canvas import canvas_of, encode_png, line_width, row_strips
from service.answers.drawing.color_scale import ColorScale, scale_face
from service.answers.drawing.tags import (
    DARK_INK,
    LIGHT_INK,
    Rectangle,
    Tag,
    draw_face,
    draw_tag,
    text_pixels,
)
from service.api.schemas import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.labels.tables import Color

OPACITY = 0.6
"""Share of the map's colour in the pixels below it; the rest is the image's grey."""

MAX_COVERED = 0.25
"""Share of the image that its tag and its scale may cover together."""

TAG_COLOR: Color = (32, 32, 32)
"""Of the tag and the scale: dark and grey, as no colour of a map."""


@dataclass(frozen=True)
class HeatMap:
    """One map as it is drawn.

    Attributes:
        values: logits, (h, w).
        captions: what its tag says, the longest first; the first one with room is taken.
    """

    values: NDArray[np.floating[Any]]
    captions: Sequence[str]


def heat_maps_png(
    image: Image.Image,
    maps: Sequence[HeatMap],
    region: Region,
    *,
    raise_if_cancelled: Callable[[], None],
) -> bytes:
    """Draw maps over their image, side by side in their order.

    Each map has a scale of its own, since two maps are the logits of two heads.

    Args:
        image: RGB.
        maps: one or more, of any sizes.
        region: the part of the image that they cover, within it.
        raise_if_cancelled: called between the steps; raises if nobody waits for the picture.

    Returns:
        The file, an RGB PNG of the image's height and, for each map, its width.
    """
    raise_if_cancelled()
    canvas = canvas_of(image, copies=len(maps))
    pixels = _covered(region)
    for place, heat_map in enumerate(maps):
        panel = canvas[:, place * image.width : (place + 1) * image.width]
        scale = ColorScale.of(heat_map.values)
        _draw_map(panel, scale.levels(heat_map.values), region, pixels, raise_if_cancelled)
        _draw_frame(panel, pixels)
        _draw_legend(panel, heat_map.captions, scale)
    raise_if_cancelled()
    return encode_png(canvas)


def _draw_map(
    panel: NDArray[np.uint8],
    levels: NDArray[np.float32],
    region: Region,
    pixels: Rectangle,
    raise_if_cancelled: Callable[[], None],
) -> None:
    """Draw levels, (h, w), over the pixels that they cover."""
    rows, columns = levels.shape
    down = _tents(pixels.top, pixels.bottom, region.y, region.height, rows)
    across = _tents(pixels.left, pixels.right, region.x, region.width, columns)
    stretched = _product(levels, across.T)
    inside = panel[pixels.top : pixels.bottom, pixels.left : pixels.right]
    for strip in row_strips(*inside.shape[:2]):
        raise_if_cancelled()
        heat = np.rint(_product(down[strip], stretched)).astype(np.uint8)
        colored = ColorScale.colors(heat)
        grey = cv2.cvtColor(cv2.cvtColor(inside[strip], cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        inside[strip] = cv2.addWeighted(grey, 1 - OPACITY, colored, OPACITY, 0)


def _draw_frame(panel: NDArray[np.uint8], pixels: Rectangle) -> None:
    """Frame the covered pixels, outside of them: a light line in a dark one."""
    line = line_width(*panel.shape[:2])
    for width, color in ((2 * line, DARK_INK), (line, LIGHT_INK)):
        left, right = max(0, pixels.left - width), pixels.right + width
        top, bottom = max(0, pixels.top - width), pixels.bottom + width
        panel[top : pixels.top, left:right] = color
        panel[pixels.bottom : bottom, left:right] = color
        panel[top:bottom, left : pixels.left] = color
        panel[top:bottom, pixels.right : right] = color


def _draw_legend(panel: NDArray[np.uint8], captions: Sequence[str], scale: ColorScale) -> None:
    """Draw the tag at the top and the scale at the bottom, as far as there is room for them."""
    height, width = panel.shape[:2]
    size = text_pixels(height, width)
    margin = line_width(height, width)
    room = float(MAX_COVERED * height * width)

    def fits(across: int, down: int) -> bool:
        return across <= width and down <= height and across * down <= room

    tags = (Tag(caption, TAG_COLOR, size) for caption in captions)
    tag = next((tag for tag in tags if fits(*tag.size)), None)
    if tag is None:
        return
    draw_tag(panel, tag, *_within(margin, margin, tag.size, height, width))
    room -= tag.size[0] * tag.size[1]
    face = scale_face(scale, TAG_COLOR, size, OPACITY)
    if fits(face.shape[1], face.shape[0]):
        below = height - face.shape[0] - margin
        left, top = _within(margin, below, (face.shape[1], face.shape[0]), height, width)
        draw_face(panel, face, size, left, top)


def _within(left: int, top: int, size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    place = Rectangle(left, top, left + size[0], top + size[1]).moved_within(height, width)
    return place.left, place.top


def _covered(region: Region) -> Rectangle:
    """Return the pixels whose middle lies in a region; at least the one around its own middle."""
    left, right = _middles(region.x, region.width)
    top, bottom = _middles(region.y, region.height)
    return Rectangle(left, top, right, bottom)


def _middles(start: float, length: float) -> tuple[int, int]:
    """Return the first of the pixels whose middle lies in an interval, and the one behind them."""
    first, end = ceil(start - 0.5), ceil(start + length - 0.5)
    if first < end:
        return first, end
    around = int(start + length / 2)
    return around, around + 1


def _tents(first: int, end: int, start: float, length: float, cells: int) -> NDArray[np.float32]:
    """Return the weight of each cell at each pixel, (pixels, cells), for a linear interpolation.

    Beyond the middle of an outermost cell that cell's value goes on.

    Args:
        first: the first pixel.
        end: the pixel behind the last one.
        start: where the cells begin, pixels.
        length: of all cells together, pixels.
        cells: how many there are.
    """
    middles = (np.arange(first, end) + 0.5 - start) / length * cells - 0.5
    distances = np.clip(middles, 0, cells - 1)[:, None] - np.arange(cells)
    tents: NDArray[np.float64] = np.maximum(0, 1 - np.abs(distances))
    return tents.astype(np.float32)


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply two matrices on this thread; numpy's own would compete with other requests."""
    nothing = np.empty((0, 0), np.float32)
    return cv2.gemm(left, right, 1, nothing, 0).astype(np.float32, copy=False)
