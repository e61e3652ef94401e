"""One list of instances of those that the passes over an image found.

Two passes see the same object if their boxes and masks agree in the part of the image that both
see. An object that a tile's edge cuts is a part: it gives way to the complete object of another
pass, else the parts of neighbouring tiles become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from model.images.masks import paste_mask, rle_of_region
from model.images.tiles import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_OBJECT = 0.5
"""Least intersection over union of the boxes, and of the masks, where both passes see."""

COVERED = 0.7
"""Share of a part's mask in a complete object's from which on the part gives way to it."""

EDGE = 0.01
"""Distance from a tile's edge, as a share of its side, within which a box touches the edge."""


@dataclass(frozen=True)
class FoundInstances:
    """The instances of all passes; arrays of one length.

    Attributes:
        boxes: x1 y1 x2 y2 in pixels of the image, float32 (N, 4).
        scores: 0 to 1, (N,).
        labels: class ids, (N,).
        masks: probabilities in the boxes, (N, 28, 28).
        passes: the pass that found each, (N,).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float32]
    passes: NDArray[np.intp]


@dataclass(frozen=True)
class MergedInstance:
    """An object.

    Attributes:
        box: around all its parts, (4,).
        score: the best of its parts'.
        label: class id.
        parts: their places among the instances found, the best first; the union of their masks is
            the object's.
    """

    box: NDArray[np.float32]
    score: float
    label: int
    parts: tuple[int, ...]


def merged_instances(
    found: FoundInstances,
    regions: Sequence[Region],
    raise_if_cancelled: Callable[[], None] = lambda: None,
) -> list[MergedInstance]:
    """Merge what several passes found of the same objects.

    Args:
        found: in any order.
        regions: what each pass saw; the first is the whole image.
        raise_if_cancelled: called for each instance; raises if nobody waits for the result.

    Returns:
        The objects, best first.
    """
    cut = _is_cut(found, regions)
    views = _Views(found, regions)
    order = np.argsort(-found.scores, kind="stable")
    complete: list[int] = []
    for index in order[~cut[order]].tolist():
        raise_if_cancelled()
        if not any(views.are_same(index, other) for other in views.near(index, complete)):
            complete.append(index)
    groups: list[list[int]] = []
    for index in order[cut[order]].tolist():
        raise_if_cancelled()
        if any(
            views.are_same(index, other) or views.covers(other, index)
            for other in views.near(index, complete)
        ):
            continue
        joined = [
            group
            for group in groups
            if any(views.are_same(index, other) for other in views.near(index, group))
        ]
        groups = [group for group in groups if group not in joined]
        groups.append([index, *(part for group in joined for part in group)])
    objects = [_object(found, group) for group in (*([each] for each in complete), *groups)]
    return sorted(objects, key=lambda each: -each.score)


def _is_cut(found: FoundInstances, regions: Sequence[Region]) -> NDArray[np.bool_]:
    """Return whether each box touches an edge of its pass's region within the image."""
    whole = regions[0]
    edges = np.array([[r.left, r.top, r.right, r.bottom] for r in regions], np.float32)
    sides = np.array([[r.width, r.height, r.width, r.height] for r in regions], np.float32)
    is_inner = edges != np.array([whole.left, whole.top, whole.right, whole.bottom], np.float32)
    distance = np.abs(found.boxes - edges[found.passes])
    touches = is_inner[found.passes] & (distance <= EDGE * sides[found.passes])
    is_cut: NDArray[np.bool_] = touches.any(axis=1)
    return is_cut


def _object(found: FoundInstances, group: Sequence[int]) -> MergedInstance:
    parts = sorted(group, key=lambda index: -found.scores[index])
    boxes = found.boxes[parts]
    box = np.concatenate((boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)))
    best = parts[0]
    return MergedInstance(box, float(found.scores[best]), int(found.labels[best]), tuple(parts))


class _Views:
    """Comparisons of instances, with each mask encoded once."""

    def __init__(self, found: FoundInstances, regions: Sequence[Region]) -> None:
        self._found = found
        self._height, self._width = regions[0].height, regions[0].width
        self._regions = np.array([[*region.corners] for region in regions], np.float32)
        self._encoded: dict[int, Any] = {}

    def near(self, index: int, others: Sequence[int]) -> list[int]:
        """Return those of other passes, of the same class, whose boxes meet an instance's."""
        if not others:
            return []
        found, places = self._found, np.array(others)
        boxes, box = found.boxes[places], found.boxes[index]
        meets = (boxes[:, :2] < box[2:]).all(axis=1) & (box[:2] < boxes[:, 2:]).all(axis=1)
        same = found.labels[places] == found.labels[index]
        apart = found.passes[places] != found.passes[index]
        near: list[int] = places[meets & same & apart].tolist()
        return near

    def are_same(self, index: int, other: int) -> bool:
        """Whether two passes agree about an object where both see."""
        found, regions = self._found, self._regions
        one, two = regions[found.passes[index]], regions[found.passes[other]]
        common = np.concatenate((np.maximum(one[:2], two[:2]), np.minimum(one[2:], two[2:])))
        if (common[:2] >= common[2:]).any():
            return False
        boxes = _clipped(found.boxes[[index, other]], common)
        if _box_overlap(*boxes) < SAME_OBJECT:
            return False
        x, y, right, bottom = common.tolist()
        window: Any = coco_mask.frPyObjects(
            np.array([[x, y, right - x, bottom - y]], np.float64), self._height, self._width
        )
        seen = [
            coco_mask.merge([self._mask(each), window[0]], intersect=True)
            for each in (index, other)
        ]
        return _mask_overlap(*seen, over_first=False) >= SAME_OBJECT

    def covers(self, complete: int, part: int) -> bool:
        """Whether most of a part lies in a complete object."""
        return _mask_overlap(self._mask(part), self._mask(complete), over_first=True) >= COVERED

    def _mask(self, index: int) -> Any:
        if index not in self._encoded:
            found, size = self._found, (self._height, self._width)
            pasted = paste_mask(found.masks[index], found.boxes[index], *size)
            self._encoded[index] = rle_of_region(pasted, *size)
        return self._encoded[index]


def _clipped(boxes: NDArray[np.float32], window: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate(
        (
            np.clip(boxes[:, :2], window[:2], window[2:]),
            np.clip(boxes[:, 2:], window[:2], window[2:]),
        ),
        axis=1,
    )


def _box_overlap(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Return the intersection over union of two boxes; 0 for boxes without area."""
    inner = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    common = float(np.prod(np.maximum(inner, 0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2])) - common
    return common / union if union > 0 else 0.0


def _mask_overlap(one: Any, two: Any, *, over_first: bool) -> float:
    """Return the intersection of two masks over their union, or over the first one."""
    # That is what pycocotools does where the second is a "crowd". Its stub has no arrays.
    shares: Any = coco_mask.iou([one], [two], [over_first])
    return float(shares[0, 0])
