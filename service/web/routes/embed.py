"""``POST /v1/embed``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from service.answers.embed import embed_document, embedding_of, layer_of
from service.answers.inference import EngineResult
from service.api.queries import EmbedQuery
from service.api.schemas import EmbedResponse
from service.link.messages import Question
from service.web.http.lean_route import LeanRoute
from service.web.http.negotiation import BYTES, VARY, document_response, prefers_bytes
from service.web.http.openapi import IMAGE_BODY, bytes_or_json, problems
from service.web.pipeline import PipelineDep

router = APIRouter(tags=["inference"], route_class=LeanRoute)


@router.post(
    "/v1/embed",
    summary="Embed an image",
    response_model=EmbedResponse,
    responses=bytes_or_json("The numbers alone: float32, little endian.")
    | problems(400, 401, 404, 406, 408, 413, 415, 422, 429, 431, 500, 503, 504),
    openapi_extra=IMAGE_BODY,
)
async def embed(
    request: Request, query: Annotated[EmbedQuery, Query()], pipeline: PipelineDep
) -> Response:
    """Embed the image: answer with the mean of one of a model's maps, for search or comparison.

    Every model can, by default the default classifier. The image is the raw body, the multipart
    field `image`, or base64 in JSON. With `Accept: application/octet-stream` the answer is the
    numbers themselves.
    """
    wants_bytes = prefers_bytes(request.headers.getlist("accept"))

    def render(engine_result: EngineResult) -> Response:
        if not wants_bytes:
            return document_response(embed_document(engine_result, query))
        embedding = embedding_of(engine_result, query)
        headers = {**VARY, "X-Embedding-Dimension": str(len(embedding))}
        return Response(embedding.astype("<f4").tobytes(), media_type=BYTES, headers=headers)

    with pipeline.model_for(Task.EMBED, query.model) as model:
        asked = Question(Task.EMBED, layer=layer_of(query, model.info))
        return await pipeline.respond(
            request, replace(model, question=asked), query.timeout, render, renders_at_once=True
        )
