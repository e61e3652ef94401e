"""``POST /v1/segment``."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from PIL import Image
from starlette.responses import Response

from model.config import Task
from model.masks import rle_of_classes
from service.errors import InvalidParameterError
from service.link.messages import ModelInfo
from service.web.journey import Answered
from service.web.negotiation import accepts_png, document_response, picture_response
from service.web.openapi import IMAGE_BODY, png_or_json, problems
from service.web.render.label_maps import label_map_png
from service.web.render.segments import overlay_png
from service.web.schemas import (
    ClassRunLengths,
    PngMask,
    RleMask,
    SegmentedClass,
    SegmentQuery,
    SegmentResponse,
)
from service.web.serving import ServingDep

if TYPE_CHECKING:
    from numpy.typing import NDArray

router = APIRouter(tags=["inference"])


@router.post(
    "/v1/segment",
    summary="Say what every pixel shows",
    response_model=SegmentResponse,
    responses=png_or_json("The label map, or the overlay.")
    | problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def segment(
    request: Request, query: Annotated[SegmentQuery, Query()], serving: ServingDep
) -> Response:
    """Segment the image and answer with its classes and the label map, in the image's own size.

    The image is the raw body, the multipart field `image`, or base64 in JSON. With
    `Accept: image/png` the answer is the label map itself, or the overlay.
    """
    serving.model_for(Task.SEGMENT)
    wants_png = accepts_png(request.headers.getlist("accept"))
    if query.view == "overlay" and not wants_png:
        raise InvalidParameterError("view is overlay; that is a picture: send Accept: image/png.")

    def render(answered: Answered) -> Response:
        if wants_png:
            return picture_response(_picture(answered, query))
        return _document(answered, query)

    return await serving.respond(request, Task.SEGMENT, query.timeout, render)


def _picture(answered: Answered, query: SegmentQuery) -> bytes:
    """Draw the label map, on its own or over the image."""
    label_map, model = answered.result.arrays[0], answered.model
    if query.view == "labels":
        return label_map_png(label_map, model.colors)
    answered.go_on()
    return overlay_png(
        answered.decode(), label_map, model.colors, model.labels, go_on=answered.go_on
    )


def _document(answered: Answered, query: SegmentQuery) -> Response:
    started = time.perf_counter()
    label_map, model = answered.result.arrays[0], answered.model
    classes = present_classes(label_map, model)
    mask: PngMask | RleMask | None = None
    if query.mask == "png":
        png = label_map_png(label_map, model.colors)
        mask = PngMask(data=base64.b64encode(png).decode())
    elif query.mask == "rle":
        masks = rle_of_classes(label_map, [present.class_id for present in classes])
        mask = RleMask(
            data=[ClassRunLengths(class_id=class_id, **rle) for class_id, rle in masks.items()]
        )
    answer = SegmentResponse(
        model=model.name,
        classes=classes,
        mask=mask,
        image=answered.prepared.facts,
        timing=answered.timing(time.perf_counter() - started),
    )
    return document_response(answer)


def present_classes(label_map: NDArray[np.uint8], model: ModelInfo) -> list[SegmentedClass]:
    """Count the pixels of the classes that occur, the largest first.

    Args:
        label_map: class ids, (H, W).
        model: whose classes they are.
    """
    # Pillow counts bytes as they are; numpy would make eight of each.
    counts = np.array(Image.fromarray(label_map).histogram())
    largest_first = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    return [
        SegmentedClass(
            class_id=class_id,
            label=model.labels[class_id],
            color="#{:02x}{:02x}{:02x}".format(*model.colors[class_id]),
            pixels=int(counts[class_id]),
            fraction=float(counts[class_id] / label_map.size),
        )
        for class_id in largest_first.tolist()
    ]
