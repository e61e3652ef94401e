"""``POST /v1/segment``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from service.answers.inference import EngineResult
from service.answers.segment import segment_document, segment_picture
from service.api.errors import InvalidParameterError
from service.api.queries import SegmentQuery
from service.api.schemas import SegmentResponse
from service.web.http.lean_route import LeanRoute
from service.web.http.negotiation import document_response, picture_response, prefers_png
from service.web.http.openapi import IMAGE_BODY, png_or_json, problems
from service.web.pipeline import PipelineDep, respond_in_tiles

router = APIRouter(tags=["inference"], route_class=LeanRoute)


@router.post(
    "/v1/segment",
    summary="Segment an image",
    response_model=SegmentResponse,
    responses=png_or_json("The label map, or the overlay.")
    | problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def segment(
    request: Request, query: Annotated[SegmentQuery, Query()], pipeline: PipelineDep
) -> Response:
    """Segment the image and answer with its classes and the label map, in the image's own size.

    The image is the raw body, the multipart field `image`, or base64 in JSON. With
    `Accept: image/png` the answer is the label map itself, or the overlay. With `tile` the network
    sees a large image in tiles too, and their logits are blended.
    """
    wants_png = prefers_png(request.headers.getlist("accept"))
    if query.view == "overlay" and not wants_png:
        raise InvalidParameterError("view is overlay; that is a picture: send Accept: image/png.")

    def render(engine_result: EngineResult) -> Response:
        if wants_png:
            return picture_response(segment_picture(engine_result, query))
        return document_response(segment_document(engine_result, query))

    with pipeline.model_for(Task.SEGMENT, query.model) as model:
        if query.tile is not None:
            return await respond_in_tiles(pipeline, request, model, query, render)
        return await pipeline.respond(request, model, query.timeout, render)
