"""``POST /v1/embeddings``, in the form of OpenAI's API.

Source: https://platform.openai.com/docs/api-reference/embeddings; images as data URLs, as NVIDIA's
NV-CLIP endpoint has them.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from model.config import Task
from service import tracing
from service.answers.inference import EngineResult
from service.api.errors import InvalidParameterError, MalformedRequestError
from service.api.openai import EmbeddingsResponse, OpenAIEmbedding
from service.api.queries import MAX_IMAGES, MAX_MODEL_NAME, EmbeddingsQuery
from service.images.json_images import MAX_FAULT, image_in_text, quotes_in
from service.images.preparation import ImagePreparer, PreparedImage
from service.link.messages import ModelInfo, Question
from service.web.http.negotiation import demand_json
from service.web.http.openapi import openai_errors, problems
from service.web.pipeline import (
    Pipeline,
    PipelineDep,
    RequestContext,
    infer_images,
    unless_client_leaves,
)

router = APIRouter(tags=["inference"])

_TEXT = {"type": "string", "description": "A data URL, or base64."}

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["input"],
                    "additionalProperties": False,
                    "properties": {
                        "model": {"type": "string", "maxLength": MAX_MODEL_NAME},
                        "input": {
                            "anyOf": [
                                _TEXT,
                                {
                                    "type": "array",
                                    "items": _TEXT,
                                    "minItems": 1,
                                    "maxItems": MAX_IMAGES,
                                },
                            ]
                        },
                        "encoding_format": {"type": "string", "enum": ["float", "base64"]},
                        "user": {"type": ["string", "null"], "description": "Ignored."},
                    },
                }
            }
        },
    }
}


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    input: str | list[str]
    model: Annotated[str, msgspec.Meta(max_length=MAX_MODEL_NAME)] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    encoding_format: Literal["float", "base64"] | msgspec.UnsetType = msgspec.UNSET
    user: str | msgspec.UnsetType | None = msgspec.UNSET
    dimensions: int | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def images(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input

    @property
    def quotes(self) -> int:
        """How many quotes it has where no key is given twice."""
        given = [getattr(self, name) for name in self.__struct_fields__]
        keys = sum(value is not msgspec.UNSET for value in given)
        texts = sum(isinstance(value, str) for value in given)
        texts += len(self.input) if isinstance(self.input, list) else 0
        return 2 * (keys + texts)


@router.post(
    "/v1/embeddings",
    summary="Embed images, as OpenAI's clients ask for it",
    response_model=EmbeddingsResponse,
    responses=openai_errors(400, 401, 404, 406, 408, 413, 415, 422, 429, 500, 503, 504)
    | problems(431),
    openapi_extra=BODY,
    dependencies=[Depends(demand_json)],
)
async def embeddings(
    request: Request, query: Annotated[EmbeddingsQuery, Query()], pipeline: PipelineDep
) -> Response:
    """Embed up to 64 images by a model's default layer, the same numbers as `/v1/embed` gives.

    Errors have OpenAI's form, `{"error": {"message", "type", "param", "code"}}`.
    """
    with pipeline.model_for(Task.EMBED, None) as default:
        # Until its body is read, the request counts as one for the default model.
        async with pipeline.received(request, default, query.timeout) as context:
            return await unless_client_leaves(request, _answer(request, pipeline, context))


async def _answer(request: Request, pipeline: Pipeline, context: RequestContext) -> Response:
    context = await pipeline.inflated(context)
    document = await context.in_time(pipeline.in_decode_thread(_parsed, context.body))
    name = document.model if isinstance(document.model, str) else None
    model = context.model.engines.find(Task.EMBED, name)
    assert model is not None, "every model can be embedded, and there is one"
    request.state.model = model.name
    tracing.describe(model=model.name)
    asked = replace(context.model, info=model, question=Question(Task.EMBED))
    context = replace(context, model=asked)
    # Base64 has four letters for three bytes.
    context.permit.hold_more(sum(len(text) * 3 // 4 for text in document.images))
    images = [partial(_decoded, pipeline.preparer, text) for text in document.images]
    results = await infer_images(pipeline, context, images, [asked.question], name="input")
    found = [result for (result,) in results]
    return await pipeline.rendered(
        context,
        lambda: _response(found, model.name, in_base64=document.encoding_format == "base64"),
        renders_at_once=False,
    )


def _parsed(body: bytes) -> _Document:
    try:
        document = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8), type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequestError(
            'The body has to be JSON like {"model": "name", "input": "data:..."}: '
            f"{str(error)[:MAX_FAULT]}."
        ) from error
    if quotes_in(body) > document.quotes:
        raise MalformedRequestError("The body has a key more than once.")
    if isinstance(document.dimensions, int):
        raise InvalidParameterError("dimensions cannot be chosen; an embedding has its layer's.")
    count = len(document.images)
    if not 1 <= count <= MAX_IMAGES:
        raise InvalidParameterError(f"input has {count} images; it has to be 1 to {MAX_IMAGES}.")
    return document


def _decoded(preparer: ImagePreparer, text: str, model: ModelInfo) -> PreparedImage:
    return preparer.prepare(*image_in_text(text, "The text"), model)


def _response(found: Sequence[EngineResult], model: str, *, in_base64: bool) -> Response:
    vectors = [each.result.arrays[0] for each in found]
    document = EmbeddingsResponse(
        model=model,
        data=[
            OpenAIEmbedding(
                index=place,
                embedding=base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if in_base64
                else vector.tolist(),
            )
            for place, vector in enumerate(vectors)
        ],
    )
    return Response(document.model_dump_json(), media_type="application/json")
