"""Rendering of detections."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model.images.masks import BoxedMask, rle_of_parts
from service.answers.drawing.detections import DrawnDetection, detections_png
from service.answers.inference import EngineResult
from service.api.queries import DetectQuery
from service.api.schemas import Detection, DetectResponse, RunLengths

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SelectedDetections:
    """The detections that a query selects, best first.

    Attributes:
        boxes: x1 y1 x2 y2, pixels of the image, (N, 4).
        scores: 0 to 1, (N,).
        labels: class ids, (N,).
        parts: the masks of each, whose union is its mask; several only of an image in tiles.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    parts: list[list[BoxedMask]]


def selected(engine_result: EngineResult, query: DetectQuery) -> SelectedDetections:
    """Select the detections that the query asks for; the engine's are best first.

    Of an image in tiles, boxes and owners of the masks follow them: see ``service.answers.tiles``.
    """
    boxes, scores, labels, masks, *placed = engine_result.result.arrays
    count = min(int((scores >= query.score_threshold).sum()), query.max_detections)
    mask_boxes, owners = placed or (boxes, np.arange(len(boxes)))
    parts: list[list[BoxedMask]] = [[] for _ in range(count)]
    for mask, box, owner in zip(masks, mask_boxes, owners.tolist(), strict=True):
        if owner < count:
            parts[owner].append(BoxedMask(mask, box))
    return SelectedDetections(boxes[:count], scores[:count], labels[:count], parts)


def detect_picture(engine_result: EngineResult, query: DetectQuery) -> bytes:
    """Draw the detections on the image."""
    found, model = selected(engine_result, query), engine_result.model
    drawn = [
        DrawnDetection(
            class_id=int(found.labels[index]),
            score=float(found.scores[index]),
            box=_corners(found.boxes[index]),
            parts=found.parts[index] if query.masks else [],
        )
        for index in range(len(found.scores))
    ]
    return detections_png(
        engine_result.decode(),
        drawn,
        model.colors,
        model.labels,
        raise_if_cancelled=engine_result.raise_if_cancelled,
    )


def detect_document(engine_result: EngineResult, query: DetectQuery) -> DetectResponse:
    """List the detections."""
    started = time.perf_counter()
    found, model, facts = (
        selected(engine_result, query),
        engine_result.model,
        engine_result.prepared.facts,
    )
    detections = [
        Detection(
            class_id=int(found.labels[index]),
            label=model.labels[found.labels[index]],
            score=float(found.scores[index]),
            box=_corners(found.boxes[index]),
            mask=RunLengths.model_validate(pasted(found, index, engine_result))
            if query.masks
            else None,
        )
        for index in range(len(found.scores))
    ]
    return DetectResponse(
        model=model.name,
        detections=detections,
        image=facts,
        timing=engine_result.timing.model_copy(
            update={"render_seconds": time.perf_counter() - started}
        ),
    )


def pasted(found: SelectedDetections, index: int, engine_result: EngineResult) -> dict[str, Any]:
    """Return COCO's run lengths of a detection's mask, in the size of the image."""
    engine_result.raise_if_cancelled()
    height, width = engine_result.prepared.facts.height, engine_result.prepared.facts.width
    return {**rle_of_parts(found.parts[index], height, width)}


def _corners(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2
