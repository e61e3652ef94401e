"""Traces of the real service, as a collector receives them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from running_service import RunningService, free_port
from scene_files import png

from model.demo.scenes import draw_scene

CALLER, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and remembers each span with the process that it came from."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Span]] = []
        super().__init__(("127.0.0.1", 0), Receiver)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self, trace: str) -> dict[str, tuple[str, Span]]:
        """Return a trace's spans, by name, with their processes."""
        return {
            span.name: (process, span)
            for process, span in self.received
            if span.trace_id.hex() == trace
        }


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            facts = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.received += [(facts["overlock.process"], span) for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def classify(service: RunningService, body: bytes, trace: str = CALLER) -> httpx.Response:
    headers = {"Content-Type": "image/png", "traceparent": f"00-{trace}-{CALLERS_SPAN}-01"}
    return httpx.post(f"{service.url}/v1/classify", content=body, headers=headers, timeout=60)


def test_both_processes_spans_make_one_trace(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    refused = "1" * 32
    with RunningService(segment_model="off", log_format="json") as service:
        assert f"{collector.url}/v1/traces" in service.log
        assert classify(service, png(draw_scene(1).image)).status_code == 200
        assert classify(service, b"no image", refused).status_code == 422
        assert service.stop() == 0  # which sends what there still is
        assert f'"trace_id": "{CALLER}"' in service.log

    spans = collector.spans(CALLER)
    assert spans.keys() == {
        *("POST /v1/classify", "read", "decode", "render"),
        *("engine", "queue", "device", "postprocess"),
    }
    ids = {name: span.span_id for name, (_, span) in spans.items()}
    parents = {name: span.parent_span_id for name, (_, span) in spans.items()}
    assert parents["POST /v1/classify"].hex() == CALLERS_SPAN
    for name in ("read", "decode", "render", "engine"):
        assert parents[name] == ids["POST /v1/classify"]
    for name in ("queue", "device", "postprocess"):
        assert parents[name] == ids["engine"]
        assert spans[name][0] == "engine-0"
    assert spans["read"][0] == "http-0"

    _, request = collector.spans(refused)["POST /v1/classify"]
    attributes = {each.key: each.value.string_value for each in request.attributes}
    assert attributes["overlock.problem"] == "invalid-image"


def test_a_collector_that_is_not_there_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with RunningService(segment_model="off") as service:
        for seed in range(3):
            assert classify(service, png(draw_scene(seed).image)).status_code == 200
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 10
        assert "Traceback" not in service.log
