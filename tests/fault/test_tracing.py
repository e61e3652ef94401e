"""Traces of a real service, sent to a collector that sometimes falls silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.fault_clients import HARMLESS, POISON, SLOW, classify, only_the_device_is_busy, picture
from support.running_service import CLIENT, RunningService

ERROR = 2
"""OTLP's status code."""

CALLER = "cd" * 8
"""The span that callers send."""

REQUEST = "POST /v1/classify"

Start = Callable[..., RunningService]


@dataclass(frozen=True)
class Span:
    name: str
    process: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """Takes what is sent by OTLP over HTTP; while silent, it answers nobody."""

    spans: list[Span] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked_in_vain: threading.Event = field(default_factory=threading.Event)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            process = _attributes(resource.resource)["overlock.process"]
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        span.name,
                        process,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _attributes(span),
                        span.status.code == ERROR,
                    )
                    for span in scope.spans
                ]

    def of(self, trace_id: str) -> dict[str, Span]:
        return {span.name: span for span in self.spans if span.trace_id == trace_id}


def _attributes(holder: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes
    }


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector and its address."""
    collector = Collector()
    collector.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not collector.may_answer.is_set():
                collector.asked_in_vain.set()
                collector.may_answer.wait()
                return
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector, f"http://127.0.0.1:{server.server_port}"
        finally:
            collector.may_answer.set()
            server.shutdown()


def ask(
    service: RunningService, trace_id: str, colour: tuple[int, int, int] = HARMLESS
) -> httpx.Response:
    headers = {"Content-Type": "image/png", "traceparent": f"00-{trace_id}-{CALLER}-01"}
    url = f"{service.url}/v1/classify"
    return CLIENT.post(url, content=picture(colour), headers=headers, timeout=60)


@contextmanager
def waiting_client(service: RunningService, trace_id: str) -> Iterator[None]:
    """A client whose request waits for the device, and that leaves at the end."""
    body = picture(HARMLESS)
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: service\r\nContent-Type: image/png\r\n"
        f"traceparent: 00-{trace_id}-{CALLER}-01\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.encode() + body)
        service.wait_for(lambda: service.metric("overlock_queue_requests") == 1)
        yield


def test_traces_reach_over_both_processes_and_a_silent_collector_holds_nobody_up(
    start_faulty: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, failed, slow, left, refused = (f"{number:032x}" for number in range(1, 6))
    with collecting() as (collector, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with start_faulty(max_queue_requests=2) as service, ThreadPoolExecutor() as threads:
            assert f"traces    {url}/v1/traces" in service.log
            assert ask(service, answered).status_code == 200
            assert ask(service, failed, POISON).status_code == 500
            slow_answer = threads.submit(ask, service, slow, SLOW)
            service.wait_for(lambda: only_the_device_is_busy(service))
            with waiting_client(service, left):
                assert ask(service, refused).status_code == 429
            assert slow_answer.result().status_code == 200
            in_engine = (answered, failed, slow, left)
            expected = {each: {REQUEST, "engine"} for each in in_engine} | {refused: {REQUEST}}
            service.wait_for(
                lambda: all(names <= collector.of(each).keys() for each, names in expected.items())
            )
            check_answered(collector.of(answered))
            check_failed(collector.of(failed))
            check_left(collector.of(left))
            check_refused(collector.of(refused))
            assert f"trace_id={answered}" in service.log

            collector.may_answer.clear()
            for _ in range(5):
                assert classify(service).status_code == 200
            assert collector.asked_in_vain.wait(10)
            assert classify(service).status_code == 200
            stopping = time.monotonic()
            assert service.stop() == 0
            # Far less than the ten seconds after which an exporter gives a collector up.
            assert time.monotonic() - stopping < 5


def check_answered(spans: dict[str, Span]) -> None:
    request, engine = spans[REQUEST], spans["engine"]
    assert {span.name: span.process for span in spans.values()} == {
        REQUEST: "http-0",
        "read": "http-0",
        "decode": "http-0",
        "engine": "engine-0",
        "queue": "engine-0",
        "device": "engine-0",
        "postprocess": "engine-0",
        "render": "http-0",
    }
    parents = {span.name: span.parent_id for span in spans.values()}
    assert parents.pop(REQUEST) == CALLER
    assert {name for name, parent in parents.items() if parent == request.span_id} == {
        "read",
        "decode",
        "engine",
        "render",
    }
    assert {name for name, parent in parents.items() if parent == engine.span_id} == {
        "queue",
        "device",
        "postprocess",
    }
    assert request.attributes["http.response.status_code"] == 200
    assert engine.attributes["overlock.batch_size"] == 1
    assert not any(span.failed for span in spans.values())


def check_failed(spans: dict[str, Span]) -> None:
    assert spans.keys() == {REQUEST, "read", "decode", "engine"}
    assert spans[REQUEST].failed
    assert spans[REQUEST].attributes["http.response.status_code"] == 500
    assert spans[REQUEST].attributes["overlock.problem"] == "inference-failed"
    assert spans["engine"].failed
    assert spans["engine"].attributes["error.type"] == "inference-failed"
    assert spans["engine"].parent_id == spans[REQUEST].span_id


def check_left(spans: dict[str, Span]) -> None:
    assert spans.keys() == {REQUEST, "read", "decode", "engine"}
    assert spans[REQUEST].failed
    assert spans[REQUEST].attributes["overlock.cancelled_in"] == "engine"
    assert "http.response.status_code" not in spans[REQUEST].attributes
    assert spans["engine"].attributes["error.type"] == "withdrawn"
    assert spans["engine"].parent_id == spans[REQUEST].span_id


def check_refused(spans: dict[str, Span]) -> None:
    assert spans.keys() == {REQUEST}
    assert not spans[REQUEST].failed
    assert spans[REQUEST].attributes["http.response.status_code"] == 429
    assert spans[REQUEST].attributes["overlock.problem"] == "queue-full"
    assert spans[REQUEST].parent_id == CALLER
