"""Counts of right answers, which add up over runs, and metrics computed from them.

Percentages go from 0 to 100, as in the paper; None where nothing was counted.

Source: timm 0.6.12 (accuracy), mmsegmentation 0.30.0 (``total_area_to_metrics``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED_CLASS = 255
"""Label of pixels that are not counted."""

Metrics = dict[str, float | None]
"""Percentages by name."""


@dataclass
class ClassificationCounts:
    """Number of images with the right class.

    Attributes:
        num_classes: of the network.
        items: images counted.
        right: those whose class has the highest logit.
        right_in_5: those whose class is among the five highest logits.
    """

    num_classes: int
    items: int = 0
    right: int = 0
    right_in_5: int = 0

    def add(self, logits: NDArray[np.float32], class_ids: NDArray[np.int64]) -> None:
        """Count a batch.

        Args:
            logits: finite, (B, classes).
            class_ids: the right ones, (B,).
        """
        ranked = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        hits = ranked == class_ids[:, None]
        self.items += len(class_ids)
        self.right += int(hits[:, 0].sum())
        self.right_in_5 += int(hits.sum())

    def metrics(self) -> Metrics:
        """Return top-1 and, from five classes on, top-5 accuracy."""
        top1 = {"top1": _percent(self.right, self.items)}
        if self.num_classes < 5:
            return top1
        return top1 | {"top5": _percent(self.right_in_5, self.items)}

    def merge(self, other: Self) -> None:
        """Add another run's counts."""
        self.items += other.items
        self.right += other.right
        self.right_in_5 += other.right_in_5

    def as_json(self) -> dict[str, Any]:
        """Return the counts as ``from_json`` takes them."""
        return {"total": self.items, "right": self.right, "right_in_5": self.right_in_5}

    @classmethod
    def from_json(cls, num_classes: int, counts: dict[str, Any]) -> Self:
        """Restore counts."""
        return cls(num_classes, counts["total"], counts["right"], counts["right_in_5"])


def _no_pixels() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass
class SegmentationCounts:
    """Number of pixels of each class that were found.

    Attributes:
        num_classes: of the network.
        items: images counted.
        intersect: pixels of a class that were found, (classes,).
        label: pixels of a class, (classes,).
        predicted: pixels that were predicted as a class, (classes,).
    """

    num_classes: int
    items: int = 0
    intersect: NDArray[np.int64] = field(default_factory=_no_pixels)
    label: NDArray[np.int64] = field(default_factory=_no_pixels)
    predicted: NDArray[np.int64] = field(default_factory=_no_pixels)

    def __post_init__(self) -> None:
        """Start from zero where no counts were given."""
        for name in ("intersect", "label", "predicted"):
            if not getattr(self, name).size:
                setattr(self, name, np.zeros(self.num_classes, np.int64))

    def add(self, predicted: NDArray[np.uint8], label: NDArray[np.uint8]) -> None:
        """Count one image.

        Args:
            predicted: class ids, (H, W).
            label: the right ones, (H, W); ``IGNORED_CLASS`` is not counted.
        """
        known = label != IGNORED_CLASS
        predicted, label = predicted[known], label[known]
        self.items += 1
        self.intersect += self._histogram(label[predicted == label])
        self.label += self._histogram(label)
        self.predicted += self._histogram(predicted)

    def metrics(self) -> Metrics:
        """Return mIoU and mean accuracy, of the classes that occur, and pixel accuracy."""
        union = self.label + self.predicted - self.intersect
        return {
            "miou": _mean_percent(self.intersect, union),
            "pixel_accuracy": _percent(int(self.intersect.sum()), int(self.label.sum())),
            "mean_accuracy": _mean_percent(self.intersect, self.label),
        }

    def merge(self, other: Self) -> None:
        """Add another run's counts."""
        self.items += other.items
        self.intersect += other.intersect
        self.label += other.label
        self.predicted += other.predicted

    def as_json(self) -> dict[str, Any]:
        """Return the counts as ``from_json`` takes them; pixels of each class."""
        union = self.label + self.predicted - self.intersect
        return {
            "total": self.items,
            "intersect": self.intersect.tolist(),
            "union": union.tolist(),
            "label": self.label.tolist(),
            "predicted": self.predicted.tolist(),
        }

    @classmethod
    def from_json(cls, num_classes: int, counts: dict[str, Any]) -> Self:
        """Restore counts."""
        pixels = (np.array(counts[name]) for name in ("intersect", "label", "predicted"))
        return cls(num_classes, counts["total"], *pixels)

    def _histogram(self, class_ids: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.bincount(class_ids, minlength=self.num_classes)


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _mean_percent(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> float | None:
    """Average the percentages of the classes with a non-zero whole."""
    present = wholes > 0
    return float(100 * np.mean(parts[present] / wholes[present])) if present.any() else None
