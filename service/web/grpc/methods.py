"""The methods of the service, each a translation of what REST's route does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from service import metrics
from service.api.errors import MalformedRequestError, NotReadyError, UnknownModelError
from service.processes.model_control import ModelControl
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.messages import call_of, decoded_bytes, message_of, response_of
from service.web.grpc.unary import UnaryCall, UnaryMethod
from service.web.pipeline import Pipeline
from service.web.v2 import metadata
from service.web.v2.calls import MAX_SHOWN
from service.web.v2.inference import infer, model_of
from service.web.v2.repository import index_of
from service.web.v2.routes import demand_ready
from service.web.v2.statistics import statistics_of


class InferenceService:
    """The standard's ``GRPCInferenceService``.

    Args:
        pipeline: of the worker.
        control: of the worker's models.
    """

    def __init__(self, pipeline: Pipeline, control: ModelControl) -> None:
        self._pipeline = pipeline
        self._control = control

    @property
    def methods(self) -> tuple[UnaryMethod, ...]:
        """The methods that are served; to gRPC itself the others are not implemented."""
        return (
            UnaryMethod("ServerLive", messages.ServerLiveRequest, self._live, is_probe=True),
            UnaryMethod("ServerReady", messages.ServerReadyRequest, self._ready, is_probe=True),
            UnaryMethod("ModelReady", messages.ModelReadyRequest, self._model_ready),
            UnaryMethod("ServerMetadata", messages.ServerMetadataRequest, self._server),
            UnaryMethod("ModelMetadata", messages.ModelMetadataRequest, self._model),
            UnaryMethod("ModelInfer", messages.ModelInferRequest, self._infer),
            UnaryMethod("ModelConfig", messages.ModelConfigRequest, self._config),
            UnaryMethod("ModelStatistics", messages.ModelStatisticsRequest, self._statistics),
            UnaryMethod("RepositoryIndex", messages.RepositoryIndexRequest, self._index),
            UnaryMethod("RepositoryModelLoad", messages.RepositoryModelLoadRequest, self._load),
            UnaryMethod(
                "RepositoryModelUnload", messages.RepositoryModelUnloadRequest, self._unload
            ),
        )

    async def _live(
        self, _: UnaryCall, _request: messages.ServerLiveRequest
    ) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=True)

    async def _ready(
        self, _: UnaryCall, _request: messages.ServerReadyRequest
    ) -> messages.ServerReadyResponse:
        return messages.ServerReadyResponse(ready=self._pipeline.ready)

    async def _model_ready(
        self, call: UnaryCall, request: messages.ModelReadyRequest
    ) -> messages.ModelReadyResponse:
        try:
            with model_of(self._pipeline, request.name, request.version) as model:
                call.model = model.info.name
                demand_ready(self._pipeline)
        except (NotReadyError, UnknownModelError):  # of an unknown one Triton says the same
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def _server(
        self, _: UnaryCall, _request: messages.ServerMetadataRequest
    ) -> messages.ServerMetadataResponse:
        return message_of(messages.ServerMetadataResponse, metadata.server_metadata())

    async def _model(
        self, call: UnaryCall, request: messages.ModelMetadataRequest
    ) -> messages.ModelMetadataResponse:
        with model_of(self._pipeline, request.name, request.version) as model:
            call.model = model.info.name
            return message_of(messages.ModelMetadataResponse, metadata.model_metadata(model.info))

    async def _config(
        self, call: UnaryCall, request: messages.ModelConfigRequest
    ) -> messages.ModelConfigResponse:
        with model_of(self._pipeline, request.name, request.version) as model:
            call.model = model.info.name
            config = message_of(messages.ModelConfig, metadata.model_config(model.info))
            return messages.ModelConfigResponse(config=config)

    async def _statistics(
        self, call: UnaryCall, request: messages.ModelStatisticsRequest
    ) -> messages.ModelStatisticsResponse:
        if request.name:
            with model_of(self._pipeline, request.name, request.version) as model:
                call.model = model.info.name
                models = [model.info]
        else:
            models = [*self._pipeline.generations.current.by_name().values()]
        samples = await asyncio.to_thread(lambda: list(metrics.samples()))
        return message_of(messages.ModelStatisticsResponse, statistics_of(models, samples))

    async def _infer(
        self, call: UnaryCall, request: messages.ModelInferRequest
    ) -> messages.ModelInferResponse:
        pipeline, left_seconds = self._pipeline, call.left_seconds
        longest_seconds = pipeline.settings.max_timeout_seconds
        if left_seconds is not None:
            left_seconds = min(left_seconds, longest_seconds)
        with model_of(pipeline, request.model_name, request.model_version) as model:
            call.model = model.info.name
            with pipeline.admitted(
                model, left_seconds or longest_seconds, call.stages, declared_bytes=call.body_bytes
            ) as context:
                context.permit.hold(call.body_bytes)
                context.permit.start()
                context.permit.hold_more(decoded_bytes(request))
                answer = await infer(
                    pipeline, context, call_of(request), response_of, longest_seconds=left_seconds
                )
                call.headers |= context.model_headers
                return answer

    async def _index(
        self, _: UnaryCall, request: messages.RepositoryIndexRequest
    ) -> messages.RepositoryIndexResponse:
        _refuse_repository(request.repository_name)
        models = index_of(self._control, self._pipeline, ready=request.ready)
        return messages.RepositoryIndexResponse(
            models=[messages.RepositoryIndexResponse.ModelIndex(**each) for each in models]
        )

    async def _load(
        self, _: UnaryCall, request: messages.RepositoryModelLoadRequest
    ) -> messages.RepositoryModelLoadResponse:
        _refuse_repository(request.repository_name)
        _refuse_parameters(request.parameters, known=())
        with self._pipeline.draining.request():
            await self._control.load(request.model_name)
        return messages.RepositoryModelLoadResponse()

    async def _unload(
        self, _: UnaryCall, request: messages.RepositoryModelUnloadRequest
    ) -> messages.RepositoryModelUnloadResponse:
        _refuse_repository(request.repository_name)
        _refuse_parameters(request.parameters, known=("unload_dependents",))
        with self._pipeline.draining.request():
            await self._control.unload(request.model_name)
        return messages.RepositoryModelUnloadResponse()


def _refuse_repository(name: str) -> None:
    if name:
        raise MalformedRequestError(
            f"There is no repository {name[:MAX_SHOWN]!r}; leave repository_name empty."
        )


def _refuse_parameters(parameters: Iterable[str], known: Sequence[str]) -> None:
    for name in parameters:
        if name not in known:
            raise MalformedRequestError(f"There is no parameter {name[:MAX_SHOWN]!r}.")
