"""Masks as polygons, whose corners are centres of pixels, as OpenCV finds and fills them.

A polygon has no holes and no parts. A hole is joined to its outline by a line there and back over
pixels of the mask, which changes none; parts of a detection are joined by lines over others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import cv2
import numpy as np

from service.commands.batch.datasets.images import Box, FoundObject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ring = NDArray[np.int32]
    """Points, x and y, pixels, (N, 2); the last one is followed by the first."""

LEAST_CORNERS = 3
"""Readers take less for no polygon; a region of one or two pixels repeats its last corner."""


def polygons_of(found: FoundObject) -> list[NDArray[np.float64]]:
    """Return the polygons of an object with a mask, corners in pixels, (N, 2) each.

    A detection has one, all regions of its mask joined; where the mask has no pixel, that is its
    box, so that no detection is lost. Stuff has one for each connected region.
    """
    pixels = found.pixels
    if pixels is None:
        return [] if found.box is None else [_corners_of_box(found.box)]
    polygons = region_polygons(pixels)
    if found.box is not None:
        polygons = [joined(polygons)]
    return [_at_least_three(polygon).astype(np.float64) for polygon in polygons]


def region_polygons(mask: NDArray[np.uint8]) -> list[Ring]:
    """Return the outline of each connected region of a mask, its holes joined to it.

    Filled by the even-odd rule, with the pixels under its lines, it is the region to the pixel.

    Args:
        mask: 0 and 1, (H, W).
    """
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [contour.reshape(-1, 2).astype(np.int32) for contour in contours]
    parents = [] if hierarchy is None else hierarchy.reshape(-1, 4)[:, 3].tolist()
    regions = {place: [rings[place]] for place, parent in enumerate(parents) if parent < 0}
    for place, parent in enumerate(parents):
        if parent >= 0:
            regions[parent].append(rings[place])
    return [_corners(_with_holes(mask, each)) for each in regions.values()]


def joined(polygons: Sequence[Ring]) -> Ring:
    """Join polygons to one, each by a line to the nearest corner of those before, and back."""
    polygon = polygons[0]
    for each in polygons[1:]:
        distances = ((polygon.astype(np.int64) - each[0]) ** 2).sum(axis=1)
        near = int(distances.argmin())
        polygon = np.concatenate((polygon[: near + 1], each, each[:1], polygon[near:]))
    return polygon


def _with_holes(mask: NDArray[np.uint8], rings: Sequence[Ring]) -> Ring:
    """Join the holes of a region, whose outline comes first, to the outline.

    A hole's leftmost point is joined to the next outline to its left: the region's, or that of a
    hole that reaches further to the left, which is joined before.
    """
    if len(rings) == 1:
        return rings[0]
    width, points = mask.shape[1], np.concatenate(rings)
    lengths = [len(ring) for ring in rings]
    firsts = [0, *accumulate(lengths[:-1])]
    lefts = np.array([-1, *(ring[:, 0].min() for ring in rings[1:])])
    pixels = points[:, 1].astype(np.int64) * width + points[:, 0]
    order = pixels.argsort(kind="stable")
    in_order = pixels[order]
    ring_in_order = np.repeat(np.arange(len(rings)), lengths)[order]
    # A circle of nodes; each of the two ends of a line is a point for a second time.
    nodes, following = list(range(len(points))), list(range(1, len(points) + 1))
    for first, length in zip(firsts, lengths, strict=True):
        following[first + length - 1] = first
    for ring in lefts.argsort(kind="stable")[1:].tolist():
        start = firsts[ring] + int(rings[ring][:, 0].argmin())
        before = start - 1 if start > firsts[ring] else start + lengths[ring] - 1
        x, y = points[start].tolist()
        outside = np.flatnonzero(mask[y, :x] == 0)
        end = y * width + (int(outside[-1]) + 1 if outside.size else 0)
        place = int(in_order.searchsorted(end))
        while lefts[ring_in_order[place]] >= lefts[ring]:
            place += 1  # the pixel is one of several outlines
        target = int(order[place])
        following[before] = len(nodes)
        following += [len(nodes) + 1, following[target]]
        following[target] = start
        nodes += [start, target]
    walked = [0]
    while (node := following[walked[-1]]) != 0:
        walked.append(node)
    joined_points: Ring = points[np.array(nodes)[walked]]
    return joined_points


def _corners(ring: Ring) -> Ring:
    """Leave out the points within straight lines."""
    steps = np.diff(ring, axis=0, append=ring[:1])
    turns = (steps != np.roll(steps, 1, axis=0)).any(axis=1)
    corners: Ring = ring[turns] if turns.any() else ring[:1]
    return corners


def _at_least_three(polygon: Ring) -> Ring:
    missing = LEAST_CORNERS - len(polygon)
    return np.concatenate((polygon, *[polygon[-1:]] * missing)) if missing > 0 else polygon


def _corners_of_box(box: Box) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
