"""``POST /v1/detect``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from service.answers.detect import detect_document, detect_picture
from service.answers.inference import EngineResult
from service.api.queries import DetectQuery
from service.api.schemas import DetectResponse
from service.web.http.lean_route import LeanRoute
from service.web.http.negotiation import document_response, picture_response, prefers_png
from service.web.http.openapi import IMAGE_BODY, png_or_json, problems
from service.web.pipeline import PipelineDep, respond_in_tiles

router = APIRouter(tags=["inference"], route_class=LeanRoute)


@router.post(
    "/v1/detect",
    summary="Detect the objects in an image",
    response_model=DetectResponse,
    responses=png_or_json("The image with the detections drawn on it.")
    | problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def detect(
    request: Request, query: Annotated[DetectQuery, Query()], pipeline: PipelineDep
) -> Response:
    """Detect objects and answer with their classes, boxes and masks, best first.

    The image is the raw body, the multipart field `image`, or base64 in JSON. With
    `Accept: image/png` the answer is the image with the detections drawn on it. With `tile` the
    network sees a large image in tiles too, and what it finds of one object is merged.
    """
    wants_png = prefers_png(request.headers.getlist("accept"))

    def render(engine_result: EngineResult) -> Response:
        if wants_png:
            return picture_response(detect_picture(engine_result, query))
        return document_response(detect_document(engine_result, query))

    with pipeline.model_for(Task.DETECT, query.model) as model:
        if query.tile is not None:
            return await respond_in_tiles(pipeline, request, model, query, render)
        return await pipeline.respond(request, model, query.timeout, render)
