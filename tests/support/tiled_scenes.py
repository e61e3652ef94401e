"""Comparisons of label maps made in tiles: seams, and crops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.evaluation.metrics import SegmentationCounts
from model.images.tiles import TileGrid
from model.scenes.scenes import SEGMENT_NAMES

NEARBY = 40
"""Lines on either side of an edge that it is compared with."""


def seam_rate(labels: NDArray[np.uint8], grid: TileGrid) -> tuple[float, float]:
    """Return the share of pixels whose label changes at tiles' inner edges, and nearby.

    The edges are the first and last rows and columns of tiles within the image; nearby are the
    lines around them, which cross the same objects.
    """
    at_edges, nearby = [], []
    for map_, starts, size in (
        (labels, grid.tops, grid.tile_height),
        (labels.T, grid.lefts, grid.tile_width),
    ):
        rates = (map_[1:] != map_[:-1]).mean(axis=1)  # between each line and the next
        edges = {start for start in starts if start > 0}
        edges |= {start + size for start in starts if start + size < len(map_)}
        for edge in edges:
            at_edges.append(rates[edge - 1])
            around = rates[max(0, edge - 1 - NEARBY) : edge + NEARBY]
            nearby.append((around.sum() - rates[edge - 1]) / (len(around) - 1))
    return float(np.mean(at_edges)), float(np.mean(nearby))


def miou(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return the mean intersection over union, percent."""
    counts = SegmentationCounts(len(SEGMENT_NAMES))
    counts.add(found, truth)
    value = counts.metrics()["miou"]
    assert value is not None
    return value
