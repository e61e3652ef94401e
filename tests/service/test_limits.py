"""Admission by an HTTP worker: permits, uploads, and deadlines that cannot be met."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.api.errors import DeadlineUnreachableError
from service.settings import Settings
from service.web import admission
from service.web.pipeline import Pipeline
from support.image_references import scene
from support.image_writers import encoded
from support.service_fakes import FakeEngines, fake_app, until_engines_have

PNG = {"Content-Type": "image/png"}
IMAGE = encoded(scene(), "PNG")


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    settings = Settings(max_queue_requests=2, max_body_bytes=2**20, max_queue_bytes=2**20)
    return fake_app(settings, engines)


def pipeline_of(app: FastAPI) -> Pipeline:
    pipeline: Pipeline = app.state.pipeline
    return pipeline


def nothing_is_held(app: FastAPI) -> bool:
    limiter = pipeline_of(app).limiter
    return limiter.held_bytes == 0 and not any(limiter.taken.values())


async def unread() -> AsyncIterator[bytes]:
    pytest.fail("the body was read")
    yield b""


async def test_one_request_more_than_allowed_is_refused_before_its_body_is_read(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.hang = True
    waiting = [
        asyncio.create_task(client.post("/v1/classify", content=IMAGE, headers=PNG))
        for _ in range(2)
    ]
    await until_engines_have(engines, 2)
    answer = await client.post("/v1/classify", content=unread(), headers=PNG)
    assert answer.status_code == 429
    assert answer.json()["type"] == "urn:overlock:problem:queue-full"
    assert answer.headers["retry-after"] == "3"  # the engines are busy for 2.5 s
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert nothing_is_held(app)


async def test_bodies_that_would_hold_too_many_bytes_are_refused(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.hang = True
    padded = IMAGE + bytes(800_000)
    first = asyncio.create_task(client.post("/v1/classify", content=padded, headers=PNG))
    await until_engines_have(engines, 1)
    assert pipeline_of(app).limiter.held_bytes == len(padded) + engines.images[0].pixels.nbytes
    answer = await client.post("/v1/classify", content=padded, headers=PNG)
    assert answer.status_code == 429
    assert answer.json()["type"] == "urn:overlock:problem:memory-full"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert nothing_is_held(app)


async def test_a_deadline_that_no_engine_can_meet_is_refused_before_the_body_is_read(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.late = DeadlineUnreachableError(needed_seconds=12.0, left_seconds=5.0)
    answer = await client.post("/v1/classify", content=unread(), headers=PNG)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"


async def test_a_stalled_upload_is_answered_408(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "STALL_SECONDS", 0.05)

    async def stalling() -> AsyncIterator[bytes]:
        yield IMAGE[:40]
        await asyncio.Event().wait()

    answer = await client.post("/v1/classify", content=stalling(), headers=PNG)
    assert answer.status_code == 408
    assert "40 bytes had arrived" in answer.json()["detail"]
    assert nothing_is_held(app)


async def test_an_upload_that_trickles_is_answered_408_at_the_deadline(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    async def trickling() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    answer = await client.post("/v1/classify?timeout=0.3", content=trickling(), headers=PNG)
    assert answer.status_code == 408
    assert nothing_is_held(app)


@pytest.mark.parametrize("steps", range(0, 40, 2))
async def test_cancelling_after_any_number_of_steps_frees_everything(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines, steps: int
) -> None:
    """Each step of the event loop may end at another await."""
    engines.hang = steps % 4 == 0

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(IMAGE), 1000):
            yield IMAGE[start : start + 1000]
            await asyncio.sleep(0)

    sending = asyncio.create_task(client.post("/v1/segment", content=body(), headers=PNG))
    for _ in range(steps):
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert nothing_is_held(app)


async def test_an_error_at_any_stage_frees_everything(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = RuntimeError("unforeseen")
    for content, status in ((IMAGE, 500), (b"no image", 422), (b"", 422), (bytes(2**20 + 1), 413)):
        answer = await client.post("/v1/classify", content=content, headers=PNG)
        assert answer.status_code == status
        assert nothing_is_held(app)


async def test_the_log_has_one_line_a_request_with_the_time_of_each_stage(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="service.access"):
        answer = await client.post("/v1/classify?top_k=1", content=IMAGE, headers=PNG)
    (record,) = [each for each in caplog.records if each.name == "service.access"]
    facts = vars(record)
    assert facts["status"] == 200
    assert facts["request_id"] == answer.headers["x-request-id"]
    assert (facts["queue_seconds"], facts["inference_seconds"]) == (0.001, 0.02)  # as the fake says
    for stage in ("read", "decode", "render"):
        assert 0 <= facts[f"{stage}_seconds"] <= facts["seconds"]
