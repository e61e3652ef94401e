"""Geometry of large images in tiles: where the tiles lie, and how much each counts at a pixel.

A network sees each tile as an image of its own, and the whole image once more: these are the passes
over an image. All tiles have one size; the last of a row or column is shifted inwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Region(NamedTuple):
    """A rectangle of an image, pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column behind it."""
        return self.left + self.width

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge, as Pillow crops."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True)
class TileGrid:
    """The passes over an image.

    Attributes:
        height: of the image, pixels.
        width: of the image.
        tile: side of a tile, pixels; a shorter side of the image bounds it.
        overlap: part of a tile's side that its neighbour sees too.
    """

    height: int
    width: int
    tile: int
    overlap: float

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """First rows of the tiles, from the top."""
        return _starts(self.height, self.tile, self.overlap)

    @cached_property
    def lefts(self) -> tuple[int, ...]:
        """First columns of the tiles, from the left."""
        return _starts(self.width, self.tile, self.overlap)

    @property
    def tile_height(self) -> int:
        """Height of every tile."""
        return min(self.tile, self.height)

    @property
    def tile_width(self) -> int:
        """Width of every tile."""
        return min(self.tile, self.width)

    @property
    def whole(self) -> Region:
        """The whole image."""
        return Region(0, 0, self.height, self.width)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """What each pass sees: the whole image, then the tiles row by row.

        An image that fits in one tile has one pass.
        """
        if len(self.tops) * len(self.lefts) == 1:
            return (self.whole,)
        size = self.tile_height, self.tile_width
        tiles = (Region(top, left, *size) for top in self.tops for left in self.lefts)
        return (self.whole, *tiles)

    @property
    def passes(self) -> int:
        """Number of passes."""
        tiles = len(self.tops) * len(self.lefts)
        return 1 if tiles == 1 else 1 + tiles

    def weights(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return the weights of each row and column of tiles, along its own pixels.

        A tile's weight at a pixel is the product of both. It falls to the tile's inner edges, and
        all tiles' weights at a pixel add up to 1.
        """
        return (
            _axis_weights(self.tops, self.tile_height, self.height, self.overlap),
            _axis_weights(self.lefts, self.tile_width, self.width, self.overlap),
        )


def smallest_tile(height: int, width: int, overlap: float, most_passes: int) -> int:
    """Return the smallest tile with which an image takes no more passes than that, at least 1."""
    low, high = 1, max(height, width)
    while low < high:
        middle = (low + high) // 2
        if TileGrid(height, width, middle, overlap).passes <= most_passes:
            high = middle
        else:
            low = middle + 1
    return low


def _starts(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Return where the tiles of one axis begin."""
    if length <= tile:
        return (0,)
    stride = max(1, int(tile * (1 - overlap)))
    return (*range(0, length - tile, stride), length - tile)


def _axis_weights(
    starts: tuple[int, ...], size: int, length: int, overlap: float
) -> list[NDArray[np.float32]]:
    """Return the weights along each tile of one axis; those of all tiles add up to 1."""
    ramp = max(1.0, size * overlap)
    steps = np.arange(size, dtype=np.float64) + 0.5
    total = np.zeros(length)
    weights = []
    for start in starts:
        weight = np.ones(size)
        if start > 0:
            weight = np.minimum(weight, steps / ramp)
        if start + size < length:
            weight = np.minimum(weight, (size - steps) / ramp)
        total[start : start + size] += weight
        weights.append(weight)
    return [
        (weight / total[start : start + size]).astype(np.float32)
        for start, weight in zip(starts, weights, strict=True)
    ]
