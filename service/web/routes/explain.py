"""``POST /v1/explain``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from service.answers.explain import class_ids_of, explain_document, explain_picture
from service.answers.inference import EngineResult
from service.api.errors import InvalidParameterError
from service.api.queries import ExplainQuery
from service.api.schemas import ExplainResponse
from service.link.messages import Question
from service.web.http.lean_route import LeanRoute
from service.web.http.negotiation import document_response, picture_response, prefers_png
from service.web.http.openapi import IMAGE_BODY, png_or_json, problems
from service.web.pipeline import PipelineDep

router = APIRouter(tags=["inference"], route_class=LeanRoute)


@router.post(
    "/v1/explain",
    summary="Explain a classification",
    response_model=ExplainResponse,
    responses=png_or_json("The image with the first class's map over it.")
    | problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def explain(
    request: Request, query: Annotated[ExplainQuery, Query()], pipeline: PipelineDep
) -> Response:
    """Say where on the image a class comes from, exactly: the mean of a class's map is its logit.

    `focus` is the map of the network's close look, `overview` that of the overview before it, if
    the weights have its head. The image is the raw body, the multipart field `image`, or base64 in
    JSON. With `Accept: image/png` the answer is a heat map over the image.
    """
    wants_png = prefers_png(request.headers.getlist("accept"))
    if query.view != "focus" and not wants_png:
        raise InvalidParameterError(
            f"view is {query.view}; that is a picture: send Accept: image/png."
        )

    def render(engine_result: EngineResult) -> Response:
        if wants_png:
            return picture_response(explain_picture(engine_result, query))
        return document_response(explain_document(engine_result))

    with pipeline.model_for(Task.EXPLAIN, query.model) as model:
        asked = Question(Task.EXPLAIN, class_ids=class_ids_of(query, model.info))
        return await pipeline.respond(
            request, replace(model, question=asked), query.timeout, render
        )
