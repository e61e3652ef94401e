"""What gRPC's clients ask beside inference: health, reflection, metadata, statistics."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import httpx
import pytest
from fastapi import FastAPI
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import MessageToDict
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from service.api.errors import ControlOffError
from service.settings import Settings
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.server import SERVICE, GrpcServer
from service.web.pipeline import Pipeline
from support.grpc_calls import GrpcClient
from support.service_fakes import FakeControl, FakeEngines

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", SERVICE, "grpc.health.v1.Health"])
async def test_health_follows_readiness(
    app: FastAPI, grpc_calls: GrpcClient, engines: FakeEngines, service: str
) -> None:
    health: Any = HealthStub(grpc_calls.channel)
    watch = health.Watch(HealthCheckRequest(service=service))
    assert (await watch.read()).status == SERVING
    engines.ready = False
    assert (await health.Check(HealthCheckRequest(service=service))).status == NOT_SERVING
    assert (await watch.read()).status == NOT_SERVING
    engines.ready = True
    assert (await watch.read()).status == SERVING
    pipeline: Pipeline = app.state.pipeline
    await pipeline.draining.run(0.0, 0.0)
    assert (await health.Check(HealthCheckRequest(service=service))).status == NOT_SERVING
    assert (await watch.read()).status == NOT_SERVING


async def test_the_health_of_another_service_is_unknown(grpc_calls: GrpcClient) -> None:
    health: Any = HealthStub(grpc_calls.channel)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await health.Check(HealthCheckRequest(service="another"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(HealthCheckRequest(service="another"))
    assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN


async def test_open_streams_hold_no_server(app: FastAPI, settings: Settings) -> None:
    server = GrpcServer(app, settings)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health: Any = HealthStub(channel)
        watches = [health.Watch(HealthCheckRequest(service=name)) for name in ("", "another")]
        for watch in watches:
            await watch.read()
        reflection = reflection_on(channel)
        await reflection.write(ServerReflectionRequest(list_services=""))
        await reflection.read()
        async with asyncio.timeout(5):
            await server.stop()


async def test_a_watch_hears_that_the_server_ends_however_soon(
    app: FastAPI, settings: Settings
) -> None:
    server = GrpcServer(app, settings)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health: Any = HealthStub(channel)
        watch = health.Watch(HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        pipeline: Pipeline = app.state.pipeline
        await pipeline.draining.run(0.0, 0.0)
        await server.stop()
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF


async def test_streams_that_need_no_key_leave_room_for_calls(
    grpc_calls: GrpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.web.grpc.streams.MAX_STREAMS", 2)
    health: Any = HealthStub(grpc_calls.channel)
    watches = [health.Watch(HealthCheckRequest()) for _ in range(2)]
    for watch in watches:
        assert (await watch.read()).status == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await reflection_on(grpc_calls.channel).read()  # refused whatever is or is not written
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    watches[0].cancel()
    async with asyncio.timeout(5):
        while await one_more_watch(health) is None:
            await asyncio.sleep(0.01)


async def one_more_watch(health: Any) -> object:
    """Return what a watch says first; None if it is refused."""
    watch = health.Watch(HealthCheckRequest())
    try:
        return await watch.read()
    except grpc.aio.AioRpcError:
        return None
    finally:
        watch.cancel()


def reflection_on(channel: Any) -> Any:
    stub: Any = ServerReflectionStub(channel)
    return stub.ServerReflectionInfo()


async def test_a_probe_is_answered_without_its_message(grpc_calls: GrpcClient) -> None:
    method: Any = grpc_calls.channel.stream_unary(f"/{SERVICE}/ServerReady")
    answer = messages.ServerReadyResponse.FromString(await method())  # nothing is written
    assert answer.ready


async def test_reflection_describes_every_service(grpc_calls: GrpcClient) -> None:
    reflection = reflection_on(grpc_calls.channel)
    await reflection.write(ServerReflectionRequest(list_services=""))
    listed = await reflection.read()
    names = [each.name for each in listed.list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]
    for name in names:
        await reflection.write(ServerReflectionRequest(file_containing_symbol=name))
        found = (await reflection.read()).file_descriptor_response.file_descriptor_proto
        services = [
            f"{file.package}.{service.name}"
            for file in map(FileDescriptorProto.FromString, found)
            for service in file.service
        ]
        assert name in services


async def test_metadata_and_configuration_are_those_of_rest(
    grpc_calls: GrpcClient, client: httpx.AsyncClient
) -> None:
    def shown(message: object) -> object:
        return MessageToDict(message, preserving_proto_field_name=True)  # type: ignore[arg-type]

    server = await grpc_calls.call(messages.ServerMetadataRequest())
    assert shown(server) == (await client.get("/v2")).json()
    model = shown(await grpc_calls.call(messages.ModelMetadataRequest(name="demo")))
    rest = (await client.get("/v2/models/demo")).json()
    for tensor in (*rest["inputs"], *rest["outputs"]):
        tensor["shape"] = [str(length) for length in tensor["shape"]]  # int64 in JSON
    assert model == rest
    config = (await grpc_calls.call(messages.ModelConfigRequest(name="demo"))).config
    rest = (await client.get("/v2/models/demo/config")).json()
    assert config.max_batch_size == rest["max_batch_size"] == 0
    for own, want in zip(
        (*config.input, *config.output), (*rest["input"], *rest["output"]), strict=True
    ):
        assert messages.DataType.Name(own.data_type) == want["data_type"]
        assert (own.name, list(own.dims)) == (want["name"], want["dims"])


@pytest.mark.parametrize("version", ["", "ab" * 6])
async def test_a_model_is_ready_while_an_engine_is(
    grpc_calls: GrpcClient, engines: FakeEngines, version: str
) -> None:
    request = messages.ModelReadyRequest(name="demo", version=version)
    assert (await grpc_calls.call(request)).ready
    engines.ready = False
    assert not (await grpc_calls.call(request)).ready
    assert not (await grpc_calls.call(messages.ServerReadyRequest())).ready
    assert (await grpc_calls.call(messages.ServerLiveRequest())).live


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("demo", "1")])
async def test_an_unknown_model_or_version_is_not_ready(
    grpc_calls: GrpcClient, name: str, version: str
) -> None:
    request = messages.ModelReadyRequest(name=name, version=version)
    assert not (await grpc_calls.call(request)).ready


@pytest.mark.parametrize(
    "kind",
    [
        messages.ModelMetadataRequest,
        messages.ModelConfigRequest,
        messages.ModelStatisticsRequest,
    ],
)
async def test_an_unknown_model_or_version_is_not_found(
    grpc_calls: GrpcClient, kind: type[messages.ModelReadyRequest]
) -> None:
    for fields in ({"name": "bird"}, {"name": "demo", "version": "123"}):
        code, _ = await grpc_calls.failure(kind(**fields))
        assert code is grpc.StatusCode.NOT_FOUND


async def test_statistics_are_of_one_model_or_of_all(
    grpc_calls: GrpcClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.metrics.samples", lambda: iter(()))
    one = await grpc_calls.call(messages.ModelStatisticsRequest(name="demo"))
    assert [each.name for each in one.model_stats] == ["demo"]
    assert one.model_stats[0].version == str(int("ab" * 6, 16))
    every = await grpc_calls.call(messages.ModelStatisticsRequest())
    assert len(every.model_stats) == 3


@pytest.fixture
def control(app: FastAPI) -> FakeControl:
    control: FakeControl = app.state.control
    return control


async def test_the_index_is_rests(
    grpc_calls: GrpcClient, client: httpx.AsyncClient, control: FakeControl
) -> None:
    await control.unload("demo-segment")
    for ready in (False, True):
        answer = await grpc_calls.call(messages.RepositoryIndexRequest(ready=ready))
        rest = (await client.post("/v2/repository/index", json={"ready": ready})).json()
        fields = ("name", "version", "state", "reason")
        own = [{name: getattr(model, name) for name in fields} for model in answer.models]
        assert own == rest
        assert len(own) >= 2


async def test_models_are_loaded_and_unloaded_by_name(
    grpc_calls: GrpcClient, control: FakeControl
) -> None:
    await grpc_calls.call(messages.RepositoryModelUnloadRequest(model_name="demo"))
    request = messages.RepositoryModelUnloadRequest(model_name="demo-segment")
    request.parameters["unload_dependents"].bool_param = False  # as Triton's client sends it
    await grpc_calls.call(request)
    await grpc_calls.call(messages.RepositoryModelLoadRequest(model_name="demo"))
    changes = [("unload", "demo"), ("unload", "demo-segment"), ("load", "demo")]
    assert control.changes == changes
    control.error = ControlOffError()
    code, details = await grpc_calls.failure(messages.RepositoryModelLoadRequest(model_name="demo"))
    assert code is grpc.StatusCode.NOT_FOUND  # as by REST
    assert "OVERLOCK_MODEL_CONTROL" in details


async def test_no_file_or_path_comes_from_a_caller(
    grpc_calls: GrpcClient, control: FakeControl
) -> None:
    load = messages.RepositoryModelLoadRequest(model_name="demo")
    load.parameters["file:1/model.pth"].bytes_param = b"weights"
    elsewhere = messages.RepositoryModelLoadRequest(model_name="demo", repository_name="/models")
    unload = messages.RepositoryModelUnloadRequest(model_name="demo")
    unload.parameters["config"].string_param = "{}"
    index = messages.RepositoryIndexRequest(repository_name="/models")
    for request in (load, elsewhere, unload, index):
        code, _ = await grpc_calls.failure(request)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert control.changes == []
