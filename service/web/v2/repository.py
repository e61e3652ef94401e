"""The model repository of the Open Inference Protocol: configured models, loaded and unloaded.

Source: Triton's extension for model repositories, extension_model_repository.md of
https://github.com/triton-inference-server/server.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.errors import MalformedRequestError, UploadTimeoutError
from service.api.queries import EmptyQuery
from service.processes.model_control import ModelControl
from service.web.http.cross_origin import refuse_other_origins
from service.web.pipeline import Pipeline, PipelineDep, unless_client_leaves
from service.web.v2.documents import RepositoryModel
from service.web.v2.inference import version_of
from service.web.v2.openapi import INDEX, TAG, protocol_errors

MAX_BODY_BYTES = 4096
"""Largest body of these requests, which have next to nothing to say."""

UPLOAD_SECONDS = 10.0
"""Time in which such a body has to arrive."""

CHANGE_ERRORS = protocol_errors(400, 401, 403, 404, 408, 422, 503)

router = APIRouter(tags=[TAG])


class _Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ready: bool = False


class _NoParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parameters: _NoParameters = _NoParameters()


class _UnloadParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    unload_dependents: bool = False  # no model depends on another


class _Unload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parameters: _UnloadParameters = _UnloadParameters()


BodyT = TypeVar("BodyT", _Listing, _Load, _Unload)


def index_of(control: ModelControl, pipeline: Pipeline, *, ready: bool) -> list[dict[str, str]]:
    """Describe the configured models by name, version, state and reason.

    Args:
        control: knows them.
        pipeline: of the worker.
        ready: whether only those are described that are served.
    """
    versions = {
        model.name: version_of(model)
        for offer in pipeline.generations.shown.offers
        for model in offer.models
    }
    models = []
    for model in control.models():
        state, reason = model.state, model.reason
        if state == "READY" and model.name not in versions:
            state, reason = "UNAVAILABLE", "its engine is starting"
        if state == "READY" or not ready:
            version = versions.get(model.name, "")
            models.append(
                {"name": model.name, "version": version, "state": state, "reason": reason}
            )
    return models


async def _control(request: Request) -> ModelControl:
    control: ModelControl = request.app.state.control
    return control


ControlDep = Annotated[ModelControl, Depends(_control)]
NoQuery = Annotated[EmptyQuery, Query()]


@router.post(
    "/v2/repository/index",
    summary="List the configured models",
    response_model=list[RepositoryModel],
    responses=protocol_errors(400, 401, 408, 422),
    openapi_extra=INDEX,
)
async def repository_index(
    request: Request, _: NoQuery, control: ControlDep, pipeline: PipelineDep
) -> Response:
    """List the configured models; with ``{"ready": true}`` those that are served."""
    asked = await _read(request, _Listing)
    models = index_of(control, pipeline, ready=asked.ready)
    return Response(msgspec.json.encode(models), media_type="application/json")


@router.post(
    "/v2/repository/models/{name}/load",
    summary="Load a model",
    responses=CHANGE_ERRORS,
    dependencies=[Depends(refuse_other_origins)],
)
async def repository_model_load(
    name: str, request: Request, _: NoQuery, control: ControlDep, pipeline: PipelineDep
) -> dict[str, str]:
    """Load a configured model, or load it anew, and answer when every HTTP worker serves it."""
    # No generation is held here: the one before could not end.
    with pipeline.draining.request():
        await _read(request, _Load)
        await unless_client_leaves(request, control.load(name))
    return {}


@router.post(
    "/v2/repository/models/{name}/unload",
    summary="Unload a model",
    responses=CHANGE_ERRORS,
    dependencies=[Depends(refuse_other_origins)],
)
async def repository_model_unload(
    name: str, request: Request, _: NoQuery, control: ControlDep, pipeline: PipelineDep
) -> dict[str, str]:
    """Unload a configured model, and answer when no HTTP worker sends it requests any more."""
    with pipeline.draining.request():
        await _read(request, _Unload)
        await unless_client_leaves(request, control.unload(name))
    return {}


async def _read(request: Request, kind: type[BodyT]) -> BodyT:
    """Read a body; a missing one says nothing.

    Raises:
        MalformedRequestError: if it is too large, no JSON, or says something that is not known.
        UploadTimeoutError: if it does not arrive in time.
    """
    body = b""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise MalformedRequestError(f"The body has more than {MAX_BODY_BYTES} bytes.")
    except TimeoutError:
        raise UploadTimeoutError(limit_seconds=UPLOAD_SECONDS, received_bytes=len(body)) from None
    if not body:
        return kind()
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequestError(f"The body says what is not known here: {error}.") from error
