"""OpenAI's own client at ``POST /v1/embeddings``: its exceptions, by the service's errors."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2  # which openai sends by
import openai
import pytest
from fastapi import FastAPI

from service.api.errors import (
    DeadlineExceededError,
    InferenceError,
    NotReadyError,
    QueueFullError,
)
from service.settings import Settings
from support.api_requests import photo
from support.service_fakes import FakeEngines, fake_app

KEY = "k-3141592653589793"
IMAGE = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()


@pytest.fixture
def app(tmp_path: Path, engines: FakeEngines) -> FastAPI:
    path = tmp_path / "keys"
    path.write_text(f"gateway {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    settings = Settings(api_keys_file=path, max_body_bytes=100_000)
    return fake_app(settings, engines)


@pytest.fixture
async def sending(app: FastAPI) -> AsyncIterator[openai.AsyncOpenAI]:
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
    async with openai.AsyncOpenAI(
        base_url="http://service/v1", api_key=KEY, http_client=http, max_retries=0
    ) as client:
        yield client


async def test_a_key_is_sent_as_the_service_reads_it(sending: openai.AsyncOpenAI) -> None:
    found = await sending.embeddings.create(model="demo", input=IMAGE)
    assert found.data[0].embedding == [0, 1, 2, 3, 4, 5]
    with pytest.raises(openai.AuthenticationError):
        await sending.with_options(api_key="wrong").embeddings.create(model="demo", input=IMAGE)


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (
            QueueFullError(waiting=9, limit=9, retry_after_seconds=1),
            openai.RateLimitError,
            "queue-full",
        ),
        (
            NotReadyError("The engine is being restarted.", retry_after_seconds=1),
            openai.InternalServerError,
            "not-ready",
        ),
        (InferenceError("The network failed."), openai.InternalServerError, "inference-failed"),
        (
            DeadlineExceededError(timeout_seconds=1.0),
            openai.InternalServerError,
            "deadline-exceeded",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_failure_of_the_service_has_its_exception(
    sending: openai.AsyncOpenAI,
    engines: FakeEngines,
    error: Exception,
    expected: type[openai.APIStatusError],
    code: str,
) -> None:
    engines.error = error
    with pytest.raises(expected) as raised:
        await sending.embeddings.create(model="demo", input=[IMAGE, IMAGE])
    assert raised.value.code == code
    assert raised.value.message


async def test_a_mistake_has_its_exception(sending: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model 'moths'") as raised:
        await sending.embeddings.create(model="moths", input=IMAGE)
    assert raised.value.code == "unknown-model"
    with pytest.raises(openai.BadRequestError, match="is not base64"):
        await sending.embeddings.create(model="demo", input="a photograph of a cat!")
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions cannot be chosen"):
        await sending.embeddings.create(model="demo", input=IMAGE, dimensions=3)
    with pytest.raises(openai.APIStatusError, match="the limit is 100000") as raised_status:
        await sending.embeddings.create(model="demo", input=[IMAGE * 200])
    assert raised_status.value.status_code == 413


@pytest.mark.slow
async def test_the_client_comes_again_after_a_busy_moment(
    sending: openai.AsyncOpenAI, engines: FakeEngines
) -> None:
    asked = 0

    def refuse_once(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise QueueFullError(waiting=8, limit=8, retry_after_seconds=1)

    engines.reject_unreachable_deadline = refuse_once  # type: ignore[method-assign]
    found = await sending.with_options(max_retries=1).embeddings.create(model="demo", input=IMAGE)
    assert len(found.data) == 1
    assert asked > 1
