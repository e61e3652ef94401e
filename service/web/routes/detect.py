"""``POST /v1/detect``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from model.masks import PastedMask, paste_mask, rle_of_region
from service.web.journey import Answered
from service.web.negotiation import accepts_png, document_response, picture_response
from service.web.openapi import IMAGE_BODY, png_or_json, problems
from service.web.render.detections import DrawnDetection, detections_png
from service.web.schemas import Detection, DetectQuery, DetectResponse, RunLengths
from service.web.serving import ServingDep

if TYPE_CHECKING:
    from numpy.typing import NDArray

router = APIRouter(tags=["inference"])


@dataclass(frozen=True)
class Found:
    """The detections that the caller asked for, best first; arrays as ``Answer`` has them."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.float32]


@router.post(
    "/v1/detect",
    summary="Find the things on an image",
    response_model=DetectResponse,
    responses=png_or_json("The image with the detections drawn on it.")
    | problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def detect(
    request: Request, query: Annotated[DetectQuery, Query()], serving: ServingDep
) -> Response:
    """Detect things and answer with their classes, boxes and masks, best first.

    The image is the raw body, the multipart field `image`, or base64 in JSON. With
    `Accept: image/png` the answer is the image with the detections drawn on it.
    """
    serving.model_for(Task.DETECT)
    wants_png = accepts_png(request.headers.getlist("accept"))

    def render(answered: Answered) -> Response:
        if wants_png:
            return picture_response(_picture(answered, query))
        return _document(answered, query)

    return await serving.respond(request, Task.DETECT, query.timeout, render)


def wanted(answered: Answered, query: DetectQuery) -> Found:
    """Keep the detections that the query asks for; the engine's are best first."""
    boxes, scores, labels, masks = answered.result.arrays
    count = min(int((scores >= query.score_threshold).sum()), query.max_detections)
    return Found(boxes[:count], scores[:count], labels[:count], masks[:count])


def _picture(answered: Answered, query: DetectQuery) -> bytes:
    found, model = wanted(answered, query), answered.model
    drawn = [
        DrawnDetection(
            class_id=int(found.labels[index]),
            score=float(found.scores[index]),
            box=_corners(found.boxes[index]),
            mask=found.masks[index] if query.masks else None,
        )
        for index in range(len(found.scores))
    ]
    return detections_png(
        answered.decode(), drawn, model.colors, model.labels, go_on=answered.go_on
    )


def _document(answered: Answered, query: DetectQuery) -> Response:
    started = time.perf_counter()
    found, model, facts = wanted(answered, query), answered.model, answered.prepared.facts
    detections = [
        Detection(
            class_id=int(found.labels[index]),
            label=model.labels[found.labels[index]],
            score=float(found.scores[index]),
            box=_corners(found.boxes[index]),
            mask=RunLengths(
                **rle_of_region(_pasted(found, index, answered), facts.height, facts.width)
            )
            if query.masks
            else None,
        )
        for index in range(len(found.scores))
    ]
    answer = DetectResponse(
        model=model.name,
        detections=detections,
        image=facts,
        timing=answered.timing(time.perf_counter() - started),
    )
    return document_response(answer)


def _pasted(found: Found, index: int, answered: Answered) -> PastedMask:
    answered.go_on()
    facts = answered.prepared.facts
    return paste_mask(found.masks[index], found.boxes[index], facts.height, facts.width)


def _corners(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2
