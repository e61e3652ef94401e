"""``POST /v1/classify``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from model.config import Task
from service.errors import InvalidParameterError
from service.web.journey import Answered
from service.web.openapi import IMAGE_BODY, problems
from service.web.schemas import ClassifyQuery, ClassifyResponse, Prediction
from service.web.serving import ServingDep

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    model = serving.model_for(Task.CLASSIFY)
    # The default is for a thousand classes; only a caller's own wish can be too large.
    if "top_k" in query.model_fields_set and query.top_k > len(model.labels):
        raise InvalidParameterError(
            f"top_k is {query.top_k}; {model.name} has {len(model.labels)} classes."
        )
    return await serving.respond(
        request,
        Task.CLASSIFY,
        query.timeout,
        lambda answered: _document(answered, query.top_k),
        renders_at_once=True,
    )


def _document(answered: Answered, top_k: int) -> Response:
    started = time.perf_counter()
    scores, model = answered.result.arrays[0], answered.model
    answer = ClassifyResponse(
        model=model.name,
        predictions=best_predictions(scores, model.labels, top_k),
        image=answered.prepared.facts,
        timing=answered.timing(time.perf_counter() - started),
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def best_predictions(
    scores: NDArray[np.floating[Any]], labels: tuple[str, ...], top_k: int
) -> list[Prediction]:
    """Pick the ``top_k`` classes with the highest scores, best first; equal ones by class id.

    Args:
        scores: one for each class, (classes,).
        labels: the classes' names.
        top_k: from 1 to the number of classes.
    """
    best = np.argsort(-scores, kind="stable")[:top_k]
    return [
        Prediction(class_id=int(index), label=labels[index], score=float(scores[index]))
        for index in best
    ]
