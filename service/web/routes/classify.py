"""``POST /v1/classify``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from model.config import Task
from service.answers.classify import check_query, classify_document
from service.answers.inference import EngineResult
from service.api.queries import ClassifyQuery
from service.api.schemas import ClassifyResponse
from service.web.http.lean_route import LeanRoute
from service.web.http.negotiation import demand_json
from service.web.http.openapi import IMAGE_BODY, problems
from service.web.pipeline import PipelineDep

router = APIRouter(tags=["inference"], route_class=LeanRoute)


@router.post(
    "/v1/classify",
    summary="Classify an image",
    response_model=ClassifyResponse,
    responses=problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
    dependencies=[Depends(demand_json)],
)
async def classify(
    request: Request, query: Annotated[ClassifyQuery, Query()], pipeline: PipelineDep
) -> Response:
    """Classify the image and answer with the most likely classes, best first.

    The image is the raw body, the multipart field `image`, or base64 in JSON.
    """

    def render(engine_result: EngineResult) -> Response:
        document = classify_document(engine_result, query)
        return Response(document.model_dump_json(), media_type="application/json")

    with pipeline.model_for(Task.CLASSIFY, query.model) as model:
        check_query(query, model.info)
        return await pipeline.respond(request, model, query.timeout, render, renders_at_once=True)
