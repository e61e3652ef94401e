"""The spans of an HTTP worker, with a fake engine and an exporter that keeps them."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import tracing
from service.api.errors import QueueFullError
from service.settings import Settings
from support.image_references import scene
from support.image_writers import encoded
from support.service_fakes import FakeEngines, fake_app

PNG = {"Content-Type": "image/png"}
IMAGE = encoded(scene(), "PNG")
TRACE, SPAN = "ab" * 16, "cd" * 8


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start_with(SimpleSpanProcessor(exporter), "http-0")
    yield exporter
    tracing.stop()


@pytest.fixture
def app(exporter: InMemorySpanExporter, engines: FakeEngines) -> FastAPI:
    settings = Settings(detect_model="mask_rcnn_overlock_xt", detect_weights="random")
    return fake_app(settings, engines)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_request_is_a_server_span_with_its_stages(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    answer = await client.post("/v1/classify?top_k=1", content=IMAGE, headers=PNG)
    assert answer.status_code == 200
    spans = by_name(exporter)
    assert spans.keys() == {"POST /v1/classify", "read", "decode", "render"}
    request = spans.pop("POST /v1/classify")
    assert request.kind is SpanKind.SERVER
    assert request.parent is None
    assert request.attributes is not None
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["http.route"] == "/v1/classify"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["overlock.request_id"] == answer.headers["x-request-id"]
    for stage in spans.values():
        assert stage.parent is not None
        assert stage.parent.span_id == request.context.span_id
    starts = [spans[name].start_time or 0 for name in ("read", "decode", "render")]
    assert starts == sorted(starts)


async def test_a_stage_takes_as_long_as_server_timing_says(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    answer = await client.post("/v1/segment", content=IMAGE, headers=PNG)
    shown = dict(entry.split(";dur=") for entry in answer.headers["server-timing"].split(", "))
    spans = by_name(exporter)
    for stage in ("read", "decode", "render"):
        milliseconds = ((spans[stage].end_time or 0) - (spans[stage].start_time or 0)) / 1e6
        assert milliseconds == pytest.approx(float(shown[stage]), abs=0.001)  # as it is rounded


async def test_the_callers_trace_goes_on_and_the_log_names_it(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    headers = PNG | {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-ID": "mine"}
    with caplog.at_level(logging.INFO, logger="service.access"):
        await client.post("/v1/classify", content=IMAGE, headers=headers)
    spans = by_name(exporter)
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    parent = spans["POST /v1/classify"].parent
    assert parent is not None
    assert f"{parent.span_id:016x}" == SPAN
    (line,) = [vars(record) for record in caplog.records if record.name == "service.access"]
    assert (line["trace_id"], line["request_id"]) == (TRACE, "mine")


async def test_a_caller_that_does_not_sample_is_followed(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    headers = PNG | {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    with caplog.at_level(logging.INFO, logger="service.access"):
        answer = await client.post("/v1/classify", content=IMAGE, headers=headers)
    assert answer.status_code == 200
    assert exporter.get_finished_spans() == ()
    assert not hasattr(caplog.records[-1], "trace_id")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_and_scrapes_are_not_traced(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, path: str
) -> None:
    await client.get(path)
    assert exporter.get_finished_spans() == ()


async def test_a_refusal_names_its_problem_and_is_no_error_of_ours(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, engines: FakeEngines
) -> None:
    engines.error = QueueFullError(waiting=9, limit=9, retry_after_seconds=1.0)
    assert (await client.post("/v1/classify", content=IMAGE, headers=PNG)).status_code == 429
    request = by_name(exporter)["POST /v1/classify"]
    assert request.attributes is not None
    assert request.attributes["overlock.problem"] == "queue-full"
    assert request.attributes["http.response.status_code"] == 429
    assert request.status.status_code is StatusCode.UNSET


async def test_an_unforeseen_failure_is_an_error(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, engines: FakeEngines
) -> None:
    engines.error = RuntimeError("secret")
    assert (await client.post("/v1/classify", content=IMAGE, headers=PNG)).status_code == 500
    request = by_name(exporter)["POST /v1/classify"]
    assert request.attributes is not None
    assert request.attributes["overlock.problem"] == "internal-error"
    assert request.status.status_code is StatusCode.ERROR
    assert "secret" not in request.to_json()


async def test_requests_at_the_same_time_do_not_mix(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    tasks = ["classify", "segment", "detect", "embed", "explain"]
    traces = [f"{number:032x}" for number in range(1, 7)]
    await asyncio.gather(
        *(
            client.post(
                f"/v1/{task}",
                content=IMAGE,
                headers=PNG | {"traceparent": f"00-{trace}-{SPAN}-01"},
            )
            for trace, task in zip(traces, [*tasks, "nothing"], strict=True)
        )
    )
    names: dict[str, set[str]] = {trace: set() for trace in traces}
    for span in exporter.get_finished_spans():
        names[f"{span.context.trace_id:032x}"].add(span.name)
    stages = {"read", "decode", "render"}
    assert names == {
        **{
            trace: {f"POST /v1/{task}", *stages} for trace, task in zip(traces, tasks, strict=False)
        },
        traces[-1]: {"POST"},
    }


async def test_a_span_names_the_model_that_a_body_names(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    image = base64.b64encode(IMAGE).decode()
    document = {"model": "demo-segment", "input": [image, image]}
    assert (await client.post("/v1/embeddings", json=document)).status_code == 200
    request = by_name(exporter)["POST /v1/embeddings"]
    assert request.attributes is not None
    assert request.attributes["overlock.model"] == "demo-segment"


async def test_without_tracing_a_callers_trace_is_left_alone(
    engines: FakeEngines, caplog: pytest.LogCaptureFixture
) -> None:
    app = fake_app(Settings(), engines)
    transport = httpx.ASGITransport(app=app)
    headers = PNG | {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    with caplog.at_level(logging.INFO, logger="service.access"):
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answer = await client.post("/v1/classify", content=IMAGE, headers=headers)
    assert answer.status_code == 200
    assert "trace_id" not in vars(caplog.records[-1])
