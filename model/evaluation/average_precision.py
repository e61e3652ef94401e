"""COCO's metric: average precision of boxes and masks.

Source: pycocotools, as mmdetection 2.28.2 calls it: boxes are measured with the box's area, masks
with the mask's, over the images that were evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from model.evaluation.coco import read_annotations
from model.evaluation.images import EvaluationError
from model.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

AREAS = ("", "_small", "_medium", "_large")
"""Suffixes of the metrics in the order of pycocotools' area ranges."""


@dataclass
class DetectionResults:
    """Detections in COCO's results format; the metric needs all of them at the end.

    Attributes:
        annotations: path of the ground truth.
        max_detections: number of detections of an image that count, the best ones.
        image_ids: ids of the evaluated images.
        results: the detections, of ``coco_result``.
    """

    annotations: Path
    max_detections: int
    image_ids: list[int] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def items(self) -> int:
        """Number of evaluated images."""
        return len(self.image_ids)

    def add(self, image_id: int, results: Sequence[dict[str, Any]]) -> None:
        """Add the detections of one image, best first."""
        self.image_ids.append(image_id)
        self.results.extend(results[: self.max_detections])

    def metrics(self) -> Metrics:
        """Return the average precisions, see ``average_precision``."""
        truth = read_annotations(self.annotations)
        return average_precision(truth, self.results, self.image_ids, self.max_detections)

    def merge(self, other: Self) -> None:
        """Add another run's results."""
        self.image_ids += other.image_ids
        self.results += other.results

    def as_json(self) -> dict[str, Any]:
        """Return what ``load`` needs besides the results, which have a file of their own."""
        return {
            "total": self.items,
            "annotations": str(self.annotations),
            "max_detections": self.max_detections,
            "image_ids": self.image_ids,
        }

    def save_results(self, path: Path) -> None:
        """Write the results as COCO's evaluation server takes them."""
        path.write_text(json.dumps(self.results), encoding="utf-8")

    @classmethod
    def load(cls, counts: dict[str, Any], results: Path) -> Self:
        """Restore what ``as_json`` and ``save_results`` wrote.

        Raises:
            EvaluationError: if the results cannot be read.
        """
        try:
            found = json.loads(results.read_bytes())
        except (OSError, ValueError) as error:
            raise EvaluationError(f"The detections {results} cannot be read: {error}") from error
        annotations = Path(counts["annotations"])
        return cls(annotations, counts["max_detections"], counts["image_ids"], found)


def coco_result(
    image_id: int, category_id: int, score: float, box: Sequence[float], mask: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one detection in COCO's results format.

    Args:
        image_id: of the image.
        category_id: of the class.
        score: from 0 to 1.
        box: x1 y1 x2 y2, pixels of the original.
        mask: COCO's run-length encoding of the whole image.
    """
    x1, y1, x2, y2 = box
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": score,
        "segmentation": dict(mask),
    }


def average_precision(
    annotations: COCO,
    results: Sequence[Mapping[str, Any]],
    image_ids: Sequence[int],
    max_detections: int,
) -> Metrics:
    """Measure boxes and, where the annotations have them, masks.

    Args:
        annotations: the ground truth.
        results: the detections, of ``coco_result``.
        image_ids: ids of the evaluated images; all others are left out.
        max_detections: number of a class's detections that count in an image, the best ones.

    Returns:
        ``box_ap`` (mean over IoU 0.50 to 0.95), ``box_ap50``, ``box_ap75``, ``box_ap_small``,
        ``_medium``, ``_large``, and the same of ``mask_ap``, in percent.
    """
    measured = _measure(annotations, results, image_ids, max_detections, "box")
    if all("segmentation" in truth for truth in annotations.dataset["annotations"]):
        measured |= _measure(annotations, results, image_ids, max_detections, "mask")
    return measured


def _measure(
    annotations: COCO,
    results: Sequence[Mapping[str, Any]],
    image_ids: Sequence[int],
    max_detections: int,
    of: Literal["box", "mask"],
) -> Metrics:
    # Ids start at 1: pycocotools takes 0 for no match.
    numbered: list[Any] = [
        {**result, "id": number, "iscrowd": 0, "area": _area(result, of)}
        for number, result in enumerate(results, start=1)
    ]
    found = COCO()
    found.dataset = {
        "images": annotations.dataset["images"],
        "categories": annotations.dataset["categories"],
        "annotations": numbered,
    }
    # pycocotools prints its progress. It also turns the ground truth's polygons into masks in
    # place, which does not disturb the next call.
    with redirect_stdout(StringIO()):
        found.createIndex()
        evaluation = COCOeval(annotations, found, "bbox" if of == "box" else "segm")
        evaluation.params.imgIds = list(image_ids)
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    # (thresholds, recalls, categories, areas, limits) -> (thresholds, recalls, categories, areas)
    precision = evaluation.eval["precision"][..., 0]
    thresholds = evaluation.params.iouThrs
    ap = f"{of}_ap"
    return {
        ap: _mean_percent(precision[..., 0]),
        f"{ap}50": _mean_percent(precision[np.isclose(thresholds, 0.5), ..., 0]),
        f"{ap}75": _mean_percent(precision[np.isclose(thresholds, 0.75), ..., 0]),
    } | {
        f"{ap}{suffix}": _mean_percent(precision[..., area])
        for area, suffix in enumerate(AREAS)
        if suffix
    }


def _area(result: Mapping[str, Any], of: Literal["box", "mask"]) -> float:
    if of == "mask":
        return float(rle.area(result["segmentation"]))
    _, _, width, height = result["bbox"]
    return float(width * height)


def _mean_percent(precision: NDArray[np.float64]) -> float | None:
    """Average the valid entries: -1 marks a category without ground truth."""
    present = precision[precision > -1]
    return float(100 * present.mean()) if present.size else None
