"""Who is there and who is gone, over a real link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from model.config import Operation, Task
from service import tracing
from service.engine.scheduling.scheduler import Scheduler
from service.engine.workers import (
    SUSPICIOUS_SECONDS,
    WITHDRAWN,
    Work,
    Workers,
    trace_answered,
    trace_unanswered,
)
from service.link.messages import ArrayHeader, Hello, Submit, Welcome, decode_to_worker, encode
from service.link.sockets import Channel, LinkServer


@asynccontextmanager
async def engine_side(address: Path, gone: list[bytes]) -> AsyncIterator[None]:
    server = LinkServer(address)
    scheduler: Scheduler[Work] = Scheduler(clock=time.monotonic, max_waiting=9, batch_sizes=(1,))
    workers = Workers(server, scheduler, "first", None, on_gone=gone.append)

    async def receive() -> None:
        async for received in server.received():
            workers.heard(received.worker)
            workers.greet(received.worker)

    tasks = [asyncio.create_task(receive()), asyncio.create_task(workers.watch())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()


@asynccontextmanager
async def worker_side(address: Path, name: bytes) -> AsyncIterator[asyncio.Queue[memoryview]]:
    """Greet the engine; what it says then is in the queue."""
    said: asyncio.Queue[memoryview] = asyncio.Queue()
    channel = Channel(lambda frames: said.put_nowait(frames[0]), lambda: None)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: channel, str(address))
    channel.send(name)
    channel.send(encode(Hello()))
    try:
        yield said
    finally:
        channel.close()


@pytest.mark.slow
async def test_a_worker_that_left_is_found_gone_and_a_silent_one_is_not(tmp_path: Path) -> None:
    gone: list[bytes] = []
    address = tmp_path / "engine.sock"
    async with engine_side(address, gone), worker_side(address, b"silent") as silent:
        async with worker_side(address, b"leaving") as leaving:
            await leaving.get()
        async with asyncio.timeout(4 * SUSPICIOUS_SECONDS):
            while not gone:
                await asyncio.sleep(0.01)
            # What it is asked with is only what it is told anyway.
            for _ in range(2):
                assert isinstance(decode_to_worker(await silent.get()), Welcome)
        assert gone == [b"leaving"]


SUBMIT = Submit(
    request_id=1,
    operation=Operation("demo", Task.CLASSIFY),
    weights_sha256=None,
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
