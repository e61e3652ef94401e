"""What a trace shows of a request in the engine, answered or not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from model.config import Task
from service import tracing
from service.engine.spans import WITHDRAWN, trace_answered, trace_unanswered
from service.link.messages import ArrayHeader, Submit

SUBMIT = Submit(
    request_id=1,
    task=Task.CLASSIFY,
    image=ArrayHeader((2, 2, 3), "|u1"),
    input_size=(2, 2),
    original_size=(2, 2),
    deadline=0.0,
    timeout_seconds=1.0,
    traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01",
)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start_with(SimpleSpanProcessor(exporter), "engine-0")
    yield exporter
    tracing.stop()


def seconds_of(exporter: InMemorySpanExporter) -> dict[str, float]:
    seconds = {}
    for span in exporter.get_finished_spans():
        assert span.start_time is not None
        assert span.end_time is not None
        seconds[span.name] = (span.end_time - span.start_time) / 1e9
    return seconds


def test_an_answered_request_waited_ran_and_was_postprocessed(spans: InMemorySpanExporter) -> None:
    trace_answered(
        SUBMIT,
        arrived=time.monotonic() - 6,
        started=time.monotonic() - 5,
        network_seconds=3,
        device_seconds=5,
        batch_size=2,
    )
    # Moments are read one after the other.
    assert seconds_of(spans) == pytest.approx(
        {"queue": 1, "device": 3, "postprocess": 2, "engine": 6}, abs=0.1
    )


def test_a_withdrawn_request_waited_until_then(spans: InMemorySpanExporter) -> None:
    trace_unanswered(SUBMIT, time.monotonic() - 4, WITHDRAWN)
    assert seconds_of(spans) == pytest.approx({"engine": 4}, abs=0.1)
    (span,) = spans.get_finished_spans()
    assert span.attributes == {"error.type": "withdrawn"}


def test_a_request_that_was_not_admitted_took_no_time(spans: InMemorySpanExporter) -> None:
    trace_unanswered(SUBMIT, None, "queue-full")
    assert seconds_of(spans) == {"engine": 0}
