"""Masks as polygons, whose corners are centres of pixels, as OpenCV finds and fills them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from service.commands.batch.datasets.images import Box, FoundObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ring = NDArray[np.int32]
    """Corners, x and y, pixels, (N, 2); the last one is followed by the first."""

LEAST_CORNERS = 3
"""Readers take less for no polygon; a region of one or two pixels repeats its last corner."""


def regions_of(mask: NDArray[np.uint8]) -> list[list[Ring]]:
    """Return the outlines of the connected regions of a mask: of each the outer one, then holes.

    Args:
        mask: 0 and 1, (H, W).
    """
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour.reshape(-1, 2) for contour in contours]
    parents = [] if hierarchy is None else hierarchy.reshape(-1, 4)[:, 3].tolist()
    regions = {place: [rings[place]] for place, parent in enumerate(parents) if parent < 0}
    for place, parent in enumerate(parents):
        if parent >= 0:
            regions[parent].append(rings[place])
    return list(regions.values())


def polygon_of(rings: Sequence[Ring]) -> Ring:
    """Join outlines into one polygon, by bridges that go there and back on the same line.

    Filled by the even-odd rule, it has the pixels of the outlines, holes left out, and those under
    the bridges: each is a line to the nearest corner of what was joined before.

    Args:
        rings: at least one.
    """
    polygon = rings[0]
    for ring in rings[1:]:
        distances = ((polygon.astype(np.int64) - ring[0]) ** 2).sum(axis=1)
        near = int(distances.argmin())
        polygon = np.concatenate((polygon[: near + 1], ring, ring[:1], polygon[near:]))
    missing = LEAST_CORNERS - len(polygon)
    return np.concatenate((polygon, *[polygon[-1:]] * missing)) if missing > 0 else polygon


def polygons_of(found: FoundObject) -> list[NDArray[np.float64]]:
    """Return the polygons of an object with a mask, corners in pixels, (N, 2) each.

    A detection has one, all regions of its mask joined; where the mask has no pixel, that is its
    box, so that no detection is lost. Stuff has one for each connected region.
    """
    pixels = found.pixels
    if pixels is None:
        return [] if found.box is None else [_corners(found.box)]
    regions = regions_of(pixels)
    if found.box is not None:
        regions = [[ring for region in regions for ring in region]]
    return [polygon_of(region).astype(np.float64) for region in regions]


def _corners(box: Box) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
