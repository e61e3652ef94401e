"""What surrounds a call by gRPC: admission, deadline, cancellation, keys, log, counts, spans."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import metrics, tracing
from service.api.errors import NotReadyError, QueueFullError
from service.settings import Settings
from service.web.grpc import open_inference_pb2 as messages
from service.web.grpc.server import SERVICE
from service.web.http.middleware import PLACES
from service.web.pipeline import Pipeline
from support.api_requests import photo
from support.grpc_calls import GrpcClient, grpc_client, infer_request
from support.service_fakes import FakeEngines, fake_app, until_engines_have

KEY = "k-3141592653589793"
INFER = f"/{SERVICE}/ModelInfer"
Code = grpc.StatusCode


def pipeline_of(app: FastAPI) -> Pipeline:
    pipeline: Pipeline = app.state.pipeline
    return pipeline


async def until_nothing_is_held(app: FastAPI, engines: FakeEngines) -> None:
    limiter = pipeline_of(app).limiter
    async with asyncio.timeout(5):
        while limiter.held_bytes or any(limiter.taken.values()) or engines.held:
            await asyncio.sleep(0.001)


def counted(counter: str, **labels: str) -> float:
    value: float = getattr(metrics, counter).labels(**labels)._value.get()
    return value


def cancelled() -> float:
    return sum(counted("CANCELLED", place=place) for place in PLACES)


# Admission, deadlines and the end.


async def test_the_clients_deadline_is_the_requests(
    app: FastAPI, grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    engines.hang = True
    code, _ = await grpc_calls.failure(infer_request(photo()), timeout=0.4)
    assert code is Code.DEADLINE_EXCEEDED
    assert 0 < engines.timeouts[0] <= 0.4
    await until_nothing_is_held(app, engines)


@pytest.mark.parametrize(
    ("parameter", "client", "expected"),
    [(None, None, 30.0), (2_000_000, None, 2.0), (2_000_000, 60.0, 2.0), (None, 9000.0, 600.0)],
)
async def test_the_earlier_deadline_holds_or_the_default_one(
    grpc_calls: GrpcClient,
    engines: FakeEngines,
    parameter: int | None,
    client: float | None,
    expected: float,
) -> None:
    parameters: dict[str, Any] = {} if parameter is None else {"timeout": parameter}
    await grpc_calls.call(infer_request(photo(), **parameters), timeout=client)
    assert engines.timeouts == [expected]


async def test_a_client_that_leaves_frees_its_place(
    app: FastAPI,
    grpc_calls: GrpcClient,
    engines: FakeEngines,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engines.hang = True
    before = cancelled()
    call = grpc_calls.start(infer_request(photo()))
    await until_engines_have(engines, 1)
    with caplog.at_level(logging.INFO, logger="service.access"):
        call.cancel()
        await asyncio.wait_for(engines.cancelled.wait(), 5)
        await until_nothing_is_held(app, engines)
    assert cancelled() == before + 1
    (line,) = [vars(record) for record in caplog.records if record.name == "service.access"]
    assert line["status"] == 499


async def test_after_a_sigterm_calls_are_unavailable_and_those_under_way_are_answered(
    app: FastAPI, grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    engines.hang = True
    under_way = grpc_calls.start(infer_request(photo()), timeout=20.0)
    await until_engines_have(engines, 1)
    draining = asyncio.create_task(pipeline_of(app).draining.run(0.0, 20.0))
    await asyncio.sleep(0)
    assert not (await grpc_calls.call(messages.ServerReadyRequest())).ready
    assert not (await grpc_calls.call(messages.ModelReadyRequest(name="demo"))).ready
    code, details = await grpc_calls.failure(infer_request(photo()))
    assert (code, details) == (Code.UNAVAILABLE, "The service is stopping.")
    assert not draining.done()
    under_way.cancel()
    await asyncio.wait_for(draining, 5)


async def test_calls_of_an_orphaned_worker_end_at_once(
    app: FastAPI, grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    engines.hang = True
    waiting = asyncio.create_task(grpc_calls.failure(infer_request(photo())))
    await until_engines_have(engines, 1)
    app.state.under_way.abandon()
    code, details = await waiting
    assert (code, details) == (Code.UNAVAILABLE, "The service has ended before the answer.")


# Keys.


@pytest.fixture
async def guarded(tmp_path: Path, engines: FakeEngines) -> AsyncIterator[GrpcClient]:
    path = tmp_path / "keys"
    path.write_text(f"gateway {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    settings = Settings(api_keys_file=path)
    app = fake_app(settings, engines)
    async with grpc_client(app, settings) as client:
        yield client


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Basic {KEY}")],
        [("authorization", "Bearer wrong"), ("x-api-key", KEY)],
        [("x-api-key", "wrong")],
    ],
)
async def test_a_call_without_a_valid_key_is_unauthenticated(
    guarded: GrpcClient, engines: FakeEngines, metadata: list[tuple[str, str]]
) -> None:
    for request in (
        infer_request(photo()),
        messages.ServerMetadataRequest(),
        messages.ModelStatisticsRequest(),
        messages.ModelReadyRequest(name="demo"),
    ):
        code, details = await guarded.failure(request, metadata=metadata)
        assert code is Code.UNAUTHENTICATED
        assert KEY not in details
    assert not engines.images


@pytest.mark.parametrize("metadata", [("authorization", f"bearer {KEY}"), ("x-api-key", KEY)])
async def test_a_key_opens_the_methods_and_the_log_names_it(
    guarded: GrpcClient, metadata: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="service.access"):
        await guarded.call(infer_request(photo()), metadata=[metadata])
    (line,) = [vars(record) for record in caplog.records if record.name == "service.access"]
    assert line["key"] == "gateway"
    assert KEY not in repr(line)


async def test_liveness_and_readiness_need_no_key(guarded: GrpcClient) -> None:
    assert (await guarded.call(messages.ServerLiveRequest())).live
    assert (await guarded.call(messages.ServerReadyRequest())).ready


# Log, counts and spans.


async def test_a_call_is_a_line_in_the_log_and_counts_like_a_request(
    grpc_calls: GrpcClient, engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    answered = counted("REQUESTS", route=INFER, status="200")
    refused = counted("REQUESTS", route=INFER, status="429")
    with caplog.at_level(logging.INFO, logger="service.access"):
        metadata = [("x-request-id", "mine")]
        await grpc_calls.call(infer_request(photo()), metadata=metadata)
        await grpc_calls.call(messages.ServerLiveRequest())
        engines.error = QueueFullError(waiting=9, limit=9, retry_after_seconds=1.0)
        await grpc_calls.failure(infer_request(photo()), metadata=[("x-request-id", "no id")])
    lines = [vars(record) for record in caplog.records if record.name == "service.access"]
    first, second = lines
    assert first["message"] == f"gRPC {INFER}"
    assert (first["status"], first["request_id"], first["model"]) == (200, "mine", "demo")
    assert first["client"] == "127.0.0.1"
    for stage in ("read", "decode", "queue", "inference", "render"):
        assert f"{stage}_seconds" in first
    assert second["status"] == 429
    assert second["request_id"] == grpc_calls.trailers["x-request-id"] != "no id"
    assert counted("REQUESTS", route=INFER, status="200") == answered + 1
    assert counted("REQUESTS", route=INFER, status="429") == refused + 1
    assert metrics.IN_FLIGHT._value.get() == 0


async def test_an_answer_says_its_id_its_times_and_its_weights(grpc_calls: GrpcClient) -> None:
    await grpc_calls.call(infer_request(photo()), metadata=[("x-request-id", "mine")])
    trailers = grpc_calls.trailers
    assert trailers["x-request-id"] == "mine"
    assert trailers["x-model-digest"] == "ab" * 32
    assert trailers["x-model-weights"] == "demo"
    stages = [each.partition(";")[0] for each in str(trailers["server-timing"]).split(", ")]
    assert stages == ["read", "decode", "queue", "inference", "render", "total"]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start_with(SimpleSpanProcessor(exporter), "http-0")
    yield exporter
    tracing.stop()


async def test_a_call_is_a_span_of_the_callers_trace_with_its_stages(
    exporter: InMemorySpanExporter, grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    trace, parent = "ab" * 16, "cd" * 8
    metadata = [("traceparent", f"00-{trace}-{parent}-01"), ("x-request-id", "mine")]
    await grpc_calls.call(infer_request(photo()), metadata=metadata)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {INFER[1:], "read", "decode", "render"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {trace}
    call = spans[INFER[1:]]
    assert call.kind is SpanKind.SERVER
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == parent
    assert dict(call.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "overlock.model": "demo",
        "overlock.request_id": "mine",
    }


@pytest.mark.parametrize(
    ("error", "code", "failed"),
    [
        (QueueFullError(waiting=9, limit=9, retry_after_seconds=1.0), 8, False),
        (NotReadyError("Off.", retry_after_seconds=1.0), 14, True),
    ],
)
async def test_only_failures_of_the_service_are_errors_in_a_trace(
    exporter: InMemorySpanExporter,
    grpc_calls: GrpcClient,
    engines: FakeEngines,
    error: Exception,
    code: int,
    failed: bool,
) -> None:
    engines.error = error
    await grpc_calls.failure(infer_request(photo()))
    (span,) = [span for span in exporter.get_finished_spans() if span.name == INFER[1:]]
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == code
    assert (span.status.status_code is StatusCode.ERROR) == failed
