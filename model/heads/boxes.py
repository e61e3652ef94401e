"""Arithmetic on boxes, (N, 4) as x1 y1 x2 y2 in pixels, in float32 whatever the network's dtype.

Source: mmdetection 2.28 (``DeltaXYWHBBoxCoder``) and mmcv 1.7 (``nms``, offset 0).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.heads.device_vector import device_vector

MAXIMUM_LOG_SCALE = math.log(1000 / 16)
"""Largest change of a side by a delta, as natural logarithm of its ratio."""


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision values as float32, others as they are.

    bfloat16 has 8 significant bits: it would move a box at pixel 1000 by up to 4 pixels.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def decode_boxes(boxes: Tensor, deltas: Tensor, stds: tuple[float, float, float, float]) -> Tensor:
    """Move and resize boxes by a head's deltas.

    Args:
        boxes: the head's input boxes, (..., 4).
        deltas: per box, the centre's shift over its width and height and the logarithms of the
            sides' ratios, each divided by its standard deviation, (..., 4).
        stds: the four standard deviations.

    Returns:
        The new boxes, (..., 4), not clipped to the image.
    """
    deltas = at_least_float32(deltas)
    deltas = deltas * device_vector(stds, deltas.device, deltas.dtype)
    centers = (boxes[..., :2] + boxes[..., 2:]) * 0.5
    sides = boxes[..., 2:] - boxes[..., :2]
    new_centers = centers + sides * deltas[..., :2]
    log_scales = deltas[..., 2:].clamp(-MAXIMUM_LOG_SCALE, MAXIMUM_LOG_SCALE)
    half_sides = sides * log_scales.exp() * 0.5
    return torch.cat([new_centers - half_sides, new_centers + half_sides], dim=-1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut boxes (..., 4) at the borders of an image of ``size``, (height, width) in pixels."""
    height, width = size
    return torch.stack(
        [
            boxes[..., 0].clamp(0, width),
            boxes[..., 1].clamp(0, height),
            boxes[..., 2].clamp(0, width),
            boxes[..., 3].clamp(0, height),
        ],
        dim=-1,
    )


def box_areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes (..., 4) in square pixels, (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of all pairs: area of the intersection over that of the union.

    Args:
        boxes: (..., N, 4).
        others: (..., M, 4).

    Returns:
        (..., N, M); NaN, which exceeds no threshold, for two boxes without area.
    """
    boxes, others = boxes.unsqueeze(-2), others.unsqueeze(-3)
    starts = torch.maximum(boxes[..., :2], others[..., :2])
    ends = torch.minimum(boxes[..., 2:], others[..., 2:])
    sides = (ends - starts).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    return intersection / (box_areas(boxes) + box_areas(others) - intersection)
