"""Each image's part of a batch's outputs, where it is finite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor

from model.heads.detections import Detections

Row = TypeVar("Row")


def where_finite(rows: Iterable[Row], finite: Tensor) -> list[Row | None]:
    """Return the finite rows, None for the others; ``finite`` also covers padding."""
    return [
        row if is_finite else None for row, is_finite in zip(rows, finite.tolist(), strict=False)
    ]


def where_usable(found: Detections) -> Detections | None:
    """Return an image's detections, or None if a number is not finite."""
    floats = (found.boxes, found.scores, found.masks)
    return found if all(tensor.isfinite().all() for tensor in floats) else None
