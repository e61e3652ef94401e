"""Inputs on which box operations are compared with torchvision's.

Values come from ``support.fill``, so they are the same in every environment: the outputs are stored
without the inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from support.fill import hashed

STRIDE = 4
"""Input pixels for one of the map, in every RoIAlign problem of one level."""

EDGE_BOXES = {
    "inside": (9.3, 13.1, 37.7, 30.2),
    "on pixels": (8.0, 12.0, 36.0, 40.0),
    "of the whole map": (0.0, 0.0, 52.0, 44.0),
    "partly above and left": (-13.7, -11.3, 17.1, 9.9),
    "partly below and right": (41.9, 35.3, 71.3, 66.7),
    "wide, over both borders": (-20.3, 17.9, 80.1, 19.3),
    "tall, over both borders": (21.3, -30.1, 23.3, 90.7),
    "wholly above": (5.0, -90.0, 30.0, -50.0),
    "wholly right": (90.0, 5.0, 130.0, 30.0),
    "tiny": (20.11, 21.37, 20.12, 21.39),
    "a point": (20.0, 21.0, 20.0, 21.0),
    "a line": (10.0, 21.0, 40.0, 21.0),
    "huge": (-133.3, -122.2, 144.4, 155.5),
    "in the last pixel's outer half": (51.1, 43.2, 51.9, 43.9),
}
"""Boxes in input pixels for a map of 11x13 at ``STRIDE``, (x1, y1, x2, y2)."""

_AT_THE_THRESHOLD = ((0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 5.0))  # an IoU of 0.5
_WITHOUT_AREA = (
    (3.0, 3.0, 3.0, 3.0),
    (3.0, 3.0, 3.0, 3.0),
    (1.0, 4.0, 9.0, 4.0),
    (1.0, 4.0, 9.0, 4.0),
    (0.0, 0.0, 10.0, 10.0),
    (5.0, 0.0, 5.0, 10.0),
    (9.0, 9.0, 1.0, 1.0),  # its corners are swapped
    (0.0, 9.0, 10.0, 1.0),
    (float("nan"), 0.0, 10.0, 10.0),
)


class NmsProblem(NamedTuple):
    """Arguments of ``nms``."""

    boxes: Tensor
    scores: Tensor
    groups: Tensor
    iou_threshold: float


class RoiAlignProblem(NamedTuple):
    """Boxes (N, 4) on a map (C, H, W) at ``STRIDE``; the last two are torchvision's parameters."""

    features: Tensor
    boxes: Tensor
    output_side: int
    sampling_ratio: int = 0
    aligned: bool = True


class DecodeProblem(NamedTuple):
    """Boxes (N, 4) and the deltas of K classes, (N, K, 4)."""

    boxes: Tensor
    deltas: Tensor
    stds: tuple[float, float, float, float]


class ClipProblem(NamedTuple):
    """Boxes (N, 4) and an image's (height, width)."""

    boxes: Tensor
    size: tuple[int, int]


class AnchorProblem(NamedTuple):
    """A map's sides, and input pixels for one of its own."""

    height: int
    width: int
    stride: int


def uniform(name: str, *shape: int, low: float, high: float) -> Tensor:
    """Spread float64 values evenly over [low, high), a function of name and shape."""
    return torch.from_numpy(hashed(name, shape)).add(1).mul((high - low) / 2).add(low)


def crowd(name: str, boxes: int, low: float = 0.0) -> Tensor:
    """Boxes that overlap a lot, (N, 4) float32; below 32 they lie at quarters of a pixel."""
    corners = uniform(f"{name} corners", boxes, 2, low=low, high=30)
    sides = uniform(f"{name} sides", boxes, 2, low=5, high=25)
    return torch.cat([corners, corners + sides], dim=1).mul(4).round().div(4).float()


def _one_group(name: str, boxes: Tensor, iou_threshold: float, levels: int = 2**20) -> NmsProblem:
    scores = uniform(f"{name} scores", len(boxes), low=0, high=levels).floor() / levels
    return NmsProblem(
        boxes, scores.float(), torch.zeros(len(boxes), dtype=torch.long), iou_threshold
    )


def _groups(name: str, boxes: Tensor, groups: int, spacing: int = 1) -> NmsProblem:
    group = uniform(f"{name} groups", len(boxes), low=0, high=1).square().mul(groups).long()
    return _one_group(name, boxes, 0.5)._replace(groups=group * spacing)


NMS_PROBLEMS = {
    "one box": _one_group("one box", crowd("one box", 1), 0.5),
    "no boxes": _one_group("no boxes", crowd("no boxes", 0), 0.5),
    "a crowd": _one_group("a crowd", crowd("a crowd", 255), 0.5),
    "a crowd of several blocks": _one_group("blocks", crowd("blocks", 601), 0.7),
    "few are kept": _one_group("few", crowd("few", 300), 0.05),
    "around the origin": _one_group("origin", crowd("origin", 99, low=-30), 0.5),
    "five scores": _one_group("five scores", crowd("five scores", 300), 0.5, levels=5),
    "one box many times": _one_group("copies", crowd("copies", 1).repeat(20, 1), 0.5, levels=1),
    "at the threshold": _one_group("threshold", torch.tensor(_AT_THE_THRESHOLD), 0.5),
    "above the threshold": _one_group("threshold", torch.tensor(_AT_THE_THRESHOLD), 0.499),
    "without area": _one_group("without area", torch.tensor(_WITHOUT_AREA), 0.5),
    "two groups": _groups("two groups", crowd("two groups", 50), 2),
    "eighty groups": _groups("eighty groups", crowd("eighty groups", 400), 80),
    "groups far apart": _groups("far apart", crowd("far apart", 60), 5, spacing=1000),
    "groups of many boxes": _groups("many boxes", crowd("many boxes", 1201, low=-30), 7),
}


def _features(*shape: int) -> Tensor:
    return uniform("features", *shape, low=-1, high=1)


def _boxes_for_ratio(sampling_ratio: int, output_side: int) -> Tensor:
    """Boxes whose adaptive sampling is this ratio: a bin is longer than ratio - 1 map pixels."""
    name = f"ratio {sampling_ratio}"
    corners = uniform(f"{name} corners", 12, 2, low=-20, high=40)
    bin_sides = uniform(
        f"{name} sides", 12, 2, low=sampling_ratio - 0.95, high=sampling_ratio - 0.05
    )
    return torch.cat([corners, corners + bin_sides * output_side * STRIDE], dim=1)


_EDGE_BOXES = torch.tensor(list(EDGE_BOXES.values()), dtype=torch.float64)
_MAP = _features(2, 11, 13)

ROI_ALIGN_PROBLEMS = {
    "7x7": RoiAlignProblem(_MAP, _EDGE_BOXES, 7),
    "14x14": RoiAlignProblem(_MAP[:1], _EDGE_BOXES, 14),
    "3x3": RoiAlignProblem(_MAP, _EDGE_BOXES, 3),
    "1x1": RoiAlignProblem(_MAP, _EDGE_BOXES, 1),
    "float32": RoiAlignProblem(_MAP.float(), _EDGE_BOXES.float(), 7),
    "no boxes": RoiAlignProblem(_MAP, _EDGE_BOXES[:0], 7),
    "a map of one pixel": RoiAlignProblem(_features(2, 1, 1), _EDGE_BOXES, 3),
    "a map of one row": RoiAlignProblem(_features(2, 1, 17), _EDGE_BOXES, 3),
    "a map of one column": RoiAlignProblem(_features(2, 9, 1), _EDGE_BOXES, 3),
    "a map that is larger than all but one": RoiAlignProblem(_features(2, 37, 29), _EDGE_BOXES, 5),
    "one sample": RoiAlignProblem(_MAP, _boxes_for_ratio(1, 3), 3, sampling_ratio=1),
    "two by two samples": RoiAlignProblem(_MAP, _boxes_for_ratio(2, 3), 3, sampling_ratio=2),
    "three by three samples": RoiAlignProblem(_MAP, _boxes_for_ratio(3, 3), 3, sampling_ratio=3),
    # Without the shift by half a pixel a side counts as one pixel of the map at least.
    "not aligned": RoiAlignProblem(
        _MAP,
        _EDGE_BOXES[(_EDGE_BOXES[:, 2:] - _EDGE_BOXES[:, :2] >= STRIDE).all(dim=1)],
        7,
        aligned=False,
    ),
}

PYRAMID = [_features(2, 57 >> level, 75 >> level) for level in range(4)]
"""Maps of 228x300 input pixels."""


def _boxes_of_every_level() -> Tensor:
    corners = uniform("level corners", 40, 2, low=-30, high=200)
    octaves = uniform("level sides", 40, 1, low=4, high=9.5)
    sides = 2 ** (octaves + uniform("level shapes", 40, 2, low=-0.5, high=0.5))
    return torch.cat([corners, corners + sides], dim=1)


PYRAMID_BOXES = _boxes_of_every_level()

IOU_PROBLEMS = {
    "a crowd": (crowd("iou", 37), crowd("iou others", 21)),
    "around the origin": (crowd("iou", 9, low=-30), crowd("iou others", 8, low=-30)),
    "without area": (torch.tensor(_WITHOUT_AREA), torch.tensor(_WITHOUT_AREA)),
    "edges": (_EDGE_BOXES.float(), _EDGE_BOXES.float()),
    "no boxes": (crowd("iou", 0), crowd("iou others", 3)),
}


def _decode(name: str, classes: int, stds: tuple[float, float, float, float]) -> DecodeProblem:
    """Deltas that mostly move a box a little; some make it grow beyond the limit.

    None makes a side shrink by more than e**3: torchvision does not bound that.
    """
    deltas = uniform(name, 30, classes, 4, low=-3, high=3)
    deltas[::7, :, 2:] = deltas[::7, :, 2:].abs() * 2 / torch.tensor(stds[2:])
    return DecodeProblem(crowd(name, 30, low=-30).double(), deltas, stds)


DECODE_PROBLEMS = {
    "proposals": _decode("proposals", 1, (1.0, 1.0, 1.0, 1.0)),
    "boxes of every class": _decode("every class", 5, (0.1, 0.1, 0.2, 0.2)),
    "a cascade's third stage": _decode("third stage", 1, (0.033, 0.033, 0.067, 0.067)),
    "no boxes": DecodeProblem(torch.zeros(0, 4), torch.zeros(0, 1, 4), (1.0, 1.0, 1.0, 1.0)),
    "without area": DecodeProblem(
        torch.tensor(_WITHOUT_AREA).double(),
        uniform("without area", len(_WITHOUT_AREA), 1, 4, low=-1, high=1),
        (0.1, 0.1, 0.2, 0.2),
    ),
}

CLIP_PROBLEMS = {
    "over every border": ClipProblem(_EDGE_BOXES.float(), (31, 23)),
    "an image of one pixel": ClipProblem(_EDGE_BOXES.float(), (1, 1)),
    "without area": ClipProblem(torch.tensor(_WITHOUT_AREA), (7, 5)),
    "no boxes": ClipProblem(torch.zeros(0, 4), (31, 23)),
}

ANCHOR_PROBLEMS = {
    f"{height}x{width} at {stride}": AnchorProblem(height, width, stride)
    for height, width, stride in [(5, 7, 4), (1, 9, 8), (6, 1, 16), (3, 2, 32), (1, 1, 64)]
}
