"""Switching tracing on, its destination, and its cost when it is off."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import tracing
from service.settings import SettingsError
from service.tracing import SpanPhase, destination

TRACE, SPAN = "ab" * 16, "cd" * 8
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start_with(SimpleSpanProcessor(exporter), "engine-0")
    yield exporter
    tracing.stop()


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "photos"}, None),
        (ENDPOINT, "http://collector:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/otlp/"}, "https://c/otlp/v1/traces"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/here"}, "http://t/here"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, None),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
    ],
)
def test_opentelemetrys_own_variables_say_where_traces_go(
    environment: dict[str, str], url: str | None
) -> None:
    assert destination(environment) == url


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: give an http or https URL (it is 'collector:4318')",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "console"},
            "OTEL_TRACES_EXPORTER: give otlp or none (it is 'console')",
        ),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: give http/protobuf (it is 'grpc')",
        ),
    ],
)
def test_what_is_not_there_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        destination(environment)
    assert str(raised.value) == message


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(tracing, "version", not_found)
    assert destination({}) is None
    with pytest.raises(SettingsError, match=r"pip install 'overlock-service\[otel\]'"):
        destination(ENDPOINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        # FastAPI itself needs OpenTelemetry's interface, which without an SDK does nothing.
        ("service.web.process", ["opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf"]),
        ("service.engine.workers, service.engine.workers", ["opentelemetry"]),
        ("service.processes.supervisor", ["opentelemetry"]),
    ],
)
def test_nothing_of_opentelemetry_is_imported_unless_asked_for(
    modules: str, absent: list[str]
) -> None:
    program = f"""
import sys, {modules}
from service import tracing
tracing.start("http-0", {{}})
tracing.record("read", 0.0, 1.0, within="00-{TRACE}-{SPAN}-01")
tracing.describe(request_id="x")
assert tracing.traceparent() is None
tracing.stop()
print([name for name in {absent} if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_a_record_is_a_span_with_its_parts_at_their_times(spans: InMemorySpanExporter) -> None:
    now, clock = time.monotonic(), time.time()
    tracing.record(
        "engine",
        now - 3,
        now,
        within=f"00-{TRACE}-{SPAN}-01",
        phases=(SpanPhase("queue", now - 3, now - 1), SpanPhase("device", now - 1, now)),
        batch_size=4,
    )
    queue, device, engine = spans.get_finished_spans()
    assert engine.parent is not None
    assert engine.parent.is_remote
    assert f"{engine.parent.span_id:016x}" == SPAN
    assert engine.attributes == {"overlock.batch_size": 4}
    for part in (queue, device):
        assert part.parent is not None
        assert part.parent.span_id == engine.context.span_id
    assert {f"{span.context.trace_id:032x}" for span in (queue, device, engine)} == {TRACE}
    assert [queue.name, device.name, engine.name] == ["queue", "device", "engine"]
    assert queue.start_time == engine.start_time
    assert queue.end_time == device.start_time
    assert device.end_time == engine.end_time
    assert engine.end_time is not None
    # Two readings of two clocks.
    assert engine.end_time / 1e9 == pytest.approx(clock, abs=0.5)
    assert queue.end_time is not None
    assert queue.start_time is not None
    assert (queue.end_time - queue.start_time) / 1e9 == pytest.approx(2, abs=1e-3)


def test_a_failure_has_its_slug(spans: InMemorySpanExporter) -> None:
    tracing.record("engine", 0.0, 1.0, within=f"00-{TRACE}-{SPAN}-01", error="queue-full")
    (span,) = spans.get_finished_spans()
    assert span.attributes == {"error.type": "queue-full"}
    assert span.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize("within", [None, f"00-{TRACE}-{SPAN}-00"], ids=["untraced", "unsampled"])
def test_what_is_part_of_no_trace_makes_none(
    spans: InMemorySpanExporter, within: str | None
) -> None:
    tracing.record("engine", 0.0, 1.0, within=within)
    assert spans.get_finished_spans() == ()


def test_the_operators_names_win_over_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "photos")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=blue,k8s.pod.name=p-1")
    tracing.start_with(SpanProcessor(), "http-3")
    provider = tracing.provider()
    tracing.stop()
    assert provider is not None
    named = provider.resource.attributes
    assert named["service.name"] == "photos"
    assert named["service.version"] == "blue"
    assert named["k8s.pod.name"] == "p-1"
    assert named["overlock.process"] == "http-3"


def test_a_service_without_a_name_has_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    tracing.start_with(SpanProcessor(), "http-0")
    provider = tracing.provider()
    tracing.stop()
    assert provider is not None
    assert provider.resource.attributes["service.name"] == "overlock-service"


def test_stopping_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, let_go = threading.Event(), threading.Event()

    class Hanging(SpanProcessor):
        def shutdown(self) -> None:
            asked.set()
            let_go.wait()

    monkeypatch.setattr(tracing, "FLUSH_SECONDS", 0.01)
    tracing.start_with(Hanging(), "http-0")
    tracing.stop()  # were it to wait, the test would run into its timeout
    assert asked.wait(5)
    assert tracing.provider() is None
    let_go.set()
