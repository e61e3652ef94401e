"""``POST /v1/classify``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from service.answers.classify import check_query, classify_document
from service.answers.inference import Answered
from service.api.schemas import ClassifyQuery, ClassifyResponse
from service.web.http.openapi import IMAGE_BODY, problems
from service.web.pipeline import ServingDep

router = APIRouter(tags=["inference"])


@router.post(
    "/v1/classify",
    summary="Name what an image shows",
    response_model=ClassifyResponse,
    responses=problems(400, 401, 404, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def classify(
    request: Request, query: Annotated[ClassifyQuery, Query()], serving: ServingDep
) -> Response:
    """Classify the image and answer with the most likely classes, best first.

    The image is the raw body, the multipart field `image`, or base64 in JSON.
    """
    check_query(query, serving.model_for(Task.CLASSIFY))

    def render(answered: Answered) -> Response:
        document = classify_document(answered, query)
        return Response(document.model_dump_json(), media_type="application/json")

    return await serving.respond(
        request, Task.CLASSIFY, query.timeout, render, renders_at_once=True
    )
