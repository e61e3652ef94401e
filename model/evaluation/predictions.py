"""Predictions on a data set's items: logits, label maps and COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from model.evaluation.average_precision import coco_result
from model.evaluation.coco import CocoImage
from model.evaluation.images import EvaluationError
from model.images.masks import paste_mask, rle_of_region
from model.images.preprocess import padded_size
from model.inference.predictor import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

Output = TypeVar("Output")


def logits_of(predictor: Predictor, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Classify images of one shape, (h, w, 3) each -> (B, classes)."""
    height, width = images[0].shape[:2]
    return np.stack(
        [_finite(row) for row in predictor.classify(images, (len(images), height, width))]
    )


def label_map_of(
    predictor: Predictor, image: NDArray[np.uint8], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Segment one image.

    Args:
        predictor: a segmenter's.
        image: the network's input, (h, w, 3).
        size: (height, width) of the result.

    Returns:
        Class ids, (height, width).
    """
    height, width = image.shape[:2]
    (label_map,) = predictor.segment([image], (1, height, width), [size])
    return _finite(label_map)


def coco_results(
    predictor: Predictor, image: CocoImage, multiple: int, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Detect the objects on one image, best first.

    Args:
        predictor: a detector's.
        image: as the data set reads it.
        multiple: the sides are padded to multiples of this, pixels.
        category_ids: category ids of the network's classes; detections of a class without one are
            dropped.
    """
    size = padded_size(image.pixels.shape[0], image.pixels.shape[1], multiple)
    (found,) = predictor.detect([image.pixels], (1, *size), [image.size])
    found = _finite(found)
    results = []
    for box, score, label, mask in zip(
        found.boxes.numpy(),
        found.scores.tolist(),
        found.labels.tolist(),
        found.masks.numpy(),
        strict=True,
    ):
        if (category_id := category_ids[label]) is not None:
            run_lengths = rle_of_region(paste_mask(mask, box, *image.size), *image.size)
            results.append(
                coco_result(image.image_id, category_id, score, box.tolist(), run_lengths)
            )
    return results


def _finite(output: Output | None) -> Output:
    if output is None:
        raise EvaluationError("The network's output is not finite; try --dtype float32.")
    return output
