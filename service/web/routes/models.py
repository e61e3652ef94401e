"""``GET /v1/models``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query

from model.config import Task
from service.api.errors import NotReadyError
from service.api.queries import EmptyQuery
from service.api.schemas import (
    NOTES,
    FixedInput,
    InputSources,
    ModelsResponse,
    ScaledInput,
    ServedModel,
    ShapeCost,
)
from service.link.messages import InputInfo, ModelInfo, Welcome
from service.web.http.negotiation import demand_json
from service.web.http.openapi import problems
from service.web.pipeline import PipelineDep

router = APIRouter(tags=["inference"])


@router.get(
    "/v1/models",
    summary="List the served models",
    responses=problems(401, 406, 422, 503),
    dependencies=[Depends(demand_json)],
)
async def list_models(_: Annotated[EmptyQuery, Query()], pipeline: PipelineDep) -> ModelsResponse:
    """List the served models of every engine that has been ready."""
    generations = pipeline.generations
    offers = generations.shown.offers
    if not offers:
        raise NotReadyError("The engine is still starting.", retry_after_seconds=1.0)
    return ModelsResponse(
        generation=generations.shown.generation,
        reload_error=generations.reload_error,
        models=[served_model(model, offer) for offer in offers for model in offer.models],
    )


def served_model(model: ModelInfo, offer: Welcome) -> ServedModel:
    """Describe one model, with the costs that its engine has measured."""
    default = next(each for each in offer.models if each.task is model.task)
    return ServedModel(
        name=model.name,
        task=model.task,
        default=model is default,
        architecture=model.architecture,
        weights=model.weights,
        weights_source=model.weights_source,
        weights_sha256=model.weights_sha256,
        weights_kind=model.weights_kind,
        activation=model.activation if model.task is Task.CLASSIFY else None,
        demo=model.weights == "demo",
        note=NOTES.get(model.weights),
        classes=list(model.labels),
        input=_input(model.input),
        input_from=InputSources.model_validate(model.input.sources),
        device=model.device,
        device_name=model.device_name,
        dtype=model.dtype,
        dtype_reason=model.dtype_reason,
        kernels=model.kernels,
        compiled=model.compiled,
        compiled_reason=model.compiled_reason,
        fallbacks=[f"{each.what}: {each.reason}" for each in model.fallbacks],
        batch_sizes=list(model.batch_sizes),
        costs=[
            ShapeCost(
                height=cost.input_size[0],
                width=cost.input_size[1],
                fixed_seconds=cost.fixed_seconds,
                per_image_seconds=cost.per_image_seconds,
            )
            for cost in offer.costs
            if cost.operation == model.operation
        ],
    )


def _input(info: InputInfo) -> FixedInput | ScaledInput:
    stated = msgspec.structs.asdict(info)
    return (FixedInput if info.width else ScaledInput).model_validate(
        {name: value for name, value in stated.items() if value is not None and name != "sources"}
    )
