"""What failed or was cancelled holds no body until Python looks for cycles."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.api.errors import QueueFullError
from service.web.pipeline import RequestContext
from service.web.v2.calls import InferenceCall
from support.api_requests import photo
from support.grpc_calls import GrpcClient, infer_request
from support.protocol_calls import document
from support.service_fakes import FakeEngines, until_engines_have

INFER = "/v2/models/demo/infer"
COUNTS = pytest.mark.parametrize("images", [1, 3])


@pytest.fixture
def held() -> Iterator[Callable[[], int]]:
    """Count the test's calls that are still in memory, while Python looks for no cycles."""
    gc.collect()
    gc.disable()
    # pytest keeps the tracebacks that were logged in earlier tests, and their calls with them.
    earlier = set(map(id, kept := _calls()))
    yield lambda: sum(id(call) not in earlier for call in _calls())
    del kept
    gc.enable()


def _calls() -> list[InferenceCall | RequestContext]:
    return [each for each in gc.get_objects() if isinstance(each, InferenceCall | RequestContext)]


@COUNTS
async def test_an_answered_call_by_grpc_is_not_kept(
    grpc_calls: GrpcClient, held: Callable[[], int], images: int
) -> None:
    await grpc_calls.call(infer_request(*[photo()] * images))
    await _until(lambda: not held())


@COUNTS
async def test_a_call_by_grpc_that_fails_unexpectedly_is_not_kept(
    grpc_calls: GrpcClient,
    engines: FakeEngines,
    held: Callable[[], int],
    images: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest keeps what is logged, and the traceback with it.
    monkeypatch.setattr(logging.getLogger("service.web.grpc.unary"), "disabled", True)
    engines.error = RuntimeError("unforeseen")
    await grpc_calls.failure(infer_request(*[photo()] * images))
    engines.error = None
    await _until(lambda: not held())


@COUNTS
async def test_a_bad_image_by_grpc_is_not_kept(
    grpc_calls: GrpcClient, held: Callable[[], int], images: int
) -> None:
    files = [photo()] * (images - 1)
    await grpc_calls.failure(infer_request(*files, b"no image"))
    await _until(lambda: not held())


@COUNTS
async def test_a_call_by_grpc_that_an_engine_refuses_is_not_kept(
    grpc_calls: GrpcClient, engines: FakeEngines, held: Callable[[], int], images: int
) -> None:
    engines.error = QueueFullError(waiting=3, limit=3, retry_after_seconds=2.0)
    await grpc_calls.failure(infer_request(*[photo()] * images))
    engines.error = None
    await _until(lambda: not held())


@COUNTS
async def test_a_cancelled_call_by_grpc_is_not_kept(
    grpc_calls: GrpcClient, engines: FakeEngines, held: Callable[[], int], images: int
) -> None:
    engines.hang = True
    call = grpc_calls.start(infer_request(*[photo()] * images))
    await until_engines_have(engines, images)
    assert held()
    call.cancel()
    await _until(lambda: not held())


async def test_a_bad_image_by_http_is_not_kept(
    client: httpx.AsyncClient, held: Callable[[], int]
) -> None:
    answer = await client.post(INFER, json=document(photo(), b"no image"))
    assert answer.status_code == 422
    await _until(lambda: not held())


@COUNTS
async def test_a_call_by_http_whose_client_leaves_is_not_kept(
    app: FastAPI, engines: FakeEngines, held: Callable[[], int], images: int
) -> None:
    engines.hang = True
    body = json.dumps(document(*[photo()] * images)).encode()
    arrived = [{"type": "http.request", "body": body, "more_body": False}]
    left = asyncio.Event()

    async def receive() -> Message:
        if arrived:
            return arrived.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        raise AssertionError("nobody listens")

    scope = {"type": "http", "method": "POST", "path": INFER, "raw_path": INFER.encode()}
    call = asyncio.create_task(
        app(scope | {"query_string": b"", "headers": [], "extensions": {}}, receive, send)
    )
    await until_engines_have(engines, images)
    assert held()
    left.set()
    await call
    await _until(lambda: not held())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
