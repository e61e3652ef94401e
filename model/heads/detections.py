"""A detector's result for one image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """The detected instances of one image, best first.

    Attributes:
        boxes: (N, 4) float32 as x1 y1 x2 y2, pixels.
        scores: probability of the label, (N,) float32.
        labels: class ids, (N,) int64.
        masks: probability that a cell of a 28x28 grid over the box belongs to the instance,
            (N, 28, 28) float32.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor
