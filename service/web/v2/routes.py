"""Routes of the protocol: health, metadata and inference."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from service import metrics
from service.api.errors import InvalidParameterError, MalformedRequestError, NotReadyError
from service.api.queries import EmptyQuery
from service.web.http.openapi import problems
from service.web.pipeline import Pipeline, PipelineDep, RequestContext, unless_client_leaves
from service.web.v2 import metadata
from service.web.v2.calls import MAX_SHOWN
from service.web.v2.documents import (
    InferenceResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    StatisticsDocument,
)
from service.web.v2.http_messages import (
    HEADER_LENGTH,
    InferenceDocument,
    call_of,
    parse_document,
    response_of,
)
from service.web.v2.inference import check_version, infer, model_of
from service.web.v2.openapi import (
    BINARY_ANSWER,
    HEADER_PARAMETER,
    INFERENCE_BODY,
    TAG,
    VERSION_PARAMETER,
    protocol_errors,
)
from service.web.v2.statistics import statistics_of

NoQuery = Annotated[EmptyQuery, Query()]


async def _version(request: Request) -> str | None:
    # Not a parameter of the routes: where the path has none, it would be one of the query.
    version: str | None = request.path_params.get("version")
    return version


Version = Annotated[str | None, Depends(_version)]

MODEL = "/v2/models/{model_name}"

QUICK_BYTES = 2**16
"""Longest JSON, in bytes, that is parsed without a thread."""

health_router = APIRouter(tags=[TAG])
infer_router = APIRouter(tags=[TAG])
"""Inference alone, so that it can be tried before the routes that are called seldom."""
router = APIRouter(tags=[TAG])


@health_router.get("/v2/health/live", name="server_live", summary="Liveness")
async def server_live() -> ServerLive:
    """Answer 200 while the event loop runs, as `/livez` does."""
    return ServerLive(live=True)


@health_router.get(
    "/v2/health/ready", name="server_ready", summary="Readiness", responses=protocol_errors(503)
)
async def server_ready(pipeline: PipelineDep) -> ServerReady:
    """Answer 200 while an engine is ready and the service is not draining, as `/readyz` does."""
    demand_ready(pipeline)
    return ServerReady(ready=True)


@router.get(
    "/v2", name="server_metadata", summary="The server", responses=protocol_errors(401, 422)
)
async def server(_: NoQuery) -> ServerMetadata:
    """Name the server, its version and the protocol's extensions that it knows."""
    return metadata.server_metadata()


async def model(
    _: NoQuery, pipeline: PipelineDep, model_name: str, version: Version
) -> ModelMetadata:
    """Name a model's version, inputs and outputs."""
    with model_of(pipeline, model_name, version) as found:
        return metadata.model_metadata(found.info)


async def ready(_: NoQuery, pipeline: PipelineDep, model_name: str, version: Version) -> ModelReady:
    """Answer 200 while an engine that has the model is ready."""
    with model_of(pipeline, model_name, version) as found:
        demand_ready(pipeline)
        return ModelReady(name=found.info.name, ready=True)


async def config(
    _: NoQuery, pipeline: PipelineDep, model_name: str, version: Version
) -> ModelConfig:
    """Describe a model as Triton's configuration does."""
    with model_of(pipeline, model_name, version) as found:
        return metadata.model_config(found.info)


async def stats(
    _: NoQuery, pipeline: PipelineDep, model_name: str, version: Version
) -> StatisticsDocument:
    """Count what a model has done since the service started, over all of its processes."""
    with model_of(pipeline, model_name, version) as found:
        samples = await run_in_threadpool(lambda: list(metrics.samples()))
        return statistics_of([found.info], samples)


@router.get(
    "/v2/models/stats",
    name="all_statistics",
    summary="Statistics of all models",
    responses=protocol_errors(401, 422, 503),
)
async def all_stats(_: NoQuery, pipeline: PipelineDep) -> StatisticsDocument:
    """Count what all models have done since the service started."""
    samples = await run_in_threadpool(lambda: list(metrics.samples()))
    return statistics_of([*pipeline.generations.current.by_name().values()], samples)


async def model_infer(request: Request, model_name: str) -> Response:
    """Answer for up to 64 images, each admitted and batched as a request of its own.

    The images are BYTES (files, in JSON as base64) or UINT8 (decoded). Parameters are those of the
    task's route below `/v1`, and `timeout` in microseconds.
    """
    # The hot route finds itself what FastAPI's dependencies find for the others.
    pipeline: Pipeline = request.app.state.pipeline
    version = await _version(request)
    for name in request.query_params:
        raise InvalidParameterError(
            f"There is no parameter {name[:MAX_SHOWN]}. The parameters of a call stand in its body."
        )
    # Until its own timeout, which stands in its body, is known.
    longest_seconds = pipeline.settings.max_timeout_seconds
    with model_of(pipeline, model_name, version) as found:
        async with pipeline.received(request, found, longest_seconds) as context:
            return await unless_client_leaves(request, _answer(request, pipeline, context))


for _path, _of, _parameters in (
    (MODEL, "model", []),
    (f"{MODEL}/versions/{{version}}", "version", [VERSION_PARAMETER]),
):
    for _end, _route, _summary in (
        ("", model, "A model"),
        ("/ready", ready, "Readiness of a model"),
        ("/config", config, "Configuration of a model"),
        ("/stats", stats, "Statistics of a model"),
    ):
        router.add_api_route(
            _path + _end,
            _route,
            name=f"{_of}_{_end[1:] or 'metadata'}",
            summary=_summary,
            responses=protocol_errors(401, 404, 422, 503),
            openapi_extra={"parameters": _parameters},
        )
    infer_router.add_api_route(
        f"{_path}/infer",
        model_infer,
        methods=["POST"],
        name=f"{_of}_infer",
        summary="Inference",
        response_model=InferenceResponse,
        responses=BINARY_ANSWER
        | protocol_errors(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)
        | problems(431),
        openapi_extra={**INFERENCE_BODY, "parameters": [*_parameters, HEADER_PARAMETER]},
    )


def demand_ready(pipeline: Pipeline) -> None:
    """Raise NotReadyError unless requests should be sent here."""
    if not pipeline.ready:
        reason = "The service is draining." if pipeline.draining.begun else "No engine is ready."
        raise NotReadyError(reason, retry_after_seconds=1.0)


async def _answer(request: Request, pipeline: Pipeline, context: RequestContext) -> Response:
    context = await pipeline.inflated(context)
    header_bytes = _header_bytes(request, context.body)
    document = await _quick_or_in_thread(
        pipeline, context, lambda: parse_document(context.body, header_bytes), header_bytes
    )
    _check_repeated(context, document)
    binary_outputs = document.binary_outputs
    tensors = memoryview(context.body)[
        len(context.body) if header_bytes is None else header_bytes :
    ]
    context.permit.hold_more(document.decoded_bytes + len(tensors))
    call = await _quick_or_in_thread(
        pipeline, context, lambda: call_of(document, tensors), header_bytes
    )
    response = await infer(
        pipeline, context, call, lambda answer: response_of(answer, binary_outputs)
    )
    response.headers.update(context.model_headers)
    return response


async def _quick_or_in_thread(
    pipeline: Pipeline, context: RequestContext, function: Any, header_bytes: int | None
) -> Any:
    """Call a parser in a thread unless the JSON is short."""
    if (len(context.body) if header_bytes is None else header_bytes) <= QUICK_BYTES:
        return function()
    return await context.in_time(pipeline.in_decode_thread(function))


def _header_bytes(request: Request, body: bytes) -> int | None:
    """Return the length of the JSON that the header states; None without the header."""
    values = request.headers.getlist(HEADER_LENGTH)
    if not values:
        return None
    (value, *others) = values
    if others or not (value.isascii() and value.isdecimal()) or int(value[:20]) > len(body):
        raise MalformedRequestError(
            f"{HEADER_LENGTH} is {value[:80]!r}; it has to be the bytes of the JSON, of "
            f"{len(body)} in all."
        )
    return int(value[:20])


def _check_repeated(context: RequestContext, document: InferenceDocument) -> None:
    """Check the model's name and version, where the body repeats them."""
    name = context.model.info.name
    if isinstance(document.model_name, str) and document.model_name not in {"", name}:
        raise MalformedRequestError(
            f"The body's model_name is {document.model_name[:80]!r}; the path's is {name}."
        )
    if isinstance(document.model_version, str):
        check_version(context.model.info, document.model_version)
