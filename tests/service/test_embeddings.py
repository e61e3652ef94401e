from __future__ import annotations

import asyncio
import base64
import codecs
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from service.api.errors import QueueFullError
from service.web.pipeline.threads import THREADS
from support.api_requests import photo
from support.service_fakes import CLASSIFIER, FakeEngines, until_engines_have

URL = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()


async def ask(client: httpx.AsyncClient, **document: Any) -> httpx.Response:
    return await client.post("/v1/embeddings", json={"model": "demo", "input": URL} | document)


async def test_one_image_is_embedded_as_openai_answers(client: httpx.AsyncClient) -> None:
    answer = await ask(client)
    assert answer.json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0, 1, 2, 3, 4, 5]}],
        "model": "demo",
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }
    assert answer.headers["x-model-digest"] == CLASSIFIER.weights_sha256
    assert "decode" in answer.headers["server-timing"]


async def test_several_images_keep_their_order_and_share_the_engines_queue(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await ask(client, input=[URL] * 5, model="demo-segment", user="a user")
    assert [each["index"] for each in answer.json()["data"]] == [0, 1, 2, 3, 4]
    assert [len(each["embedding"]) for each in answer.json()["data"]] == [4] * 5
    assert len(engines.images) == 5
    assert engines.held == 0


async def test_without_a_model_the_default_one_answers(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/embeddings", json={"input": URL})
    assert answer.json()["model"] == "demo"


async def test_base64_is_float32_little_endian(client: httpx.AsyncClient) -> None:
    answer = await ask(client, encoding_format="base64")
    coded = answer.json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.arange(6))


@pytest.mark.parametrize(
    ("document", "status", "code", "param", "words"),
    [
        ({"model": "moths"}, 404, "unknown-model", None, "There is no model 'moths'"),
        ({"dimensions": 3}, 422, "invalid-parameter", "dimensions", "cannot be chosen"),
        ({"input": []}, 422, "invalid-parameter", "input", "1 to 64"),
        ({"input": ["aGk="] * 65}, 422, "invalid-parameter", "input", "has 65 images"),
        (
            {"input": ["a cat!"]},
            400,
            "malformed-request",
            "input",
            "input[0]: The text is not base64",
        ),
        ({"input": [URL, "aGk="]}, 422, "invalid-image", "input", "input[1]: "),
        ({"input": 3}, 400, "malformed-request", None, "The body has to be JSON like"),
        ({"encoding_format": "hex"}, 400, "malformed-request", None, "hex"),
        ({"images": [URL]}, 400, "malformed-request", None, "images"),
        ({"model": "m" * 65}, 400, "malformed-request", None, "length <= 64"),
        ({"user": 3}, 400, "malformed-request", None, "user"),
    ],
)
async def test_errors_have_openais_form(
    client: httpx.AsyncClient,
    document: dict[str, Any],
    status: int,
    code: str,
    param: str | None,
    words: str,
) -> None:
    answer = await ask(client, **document)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert words in error["message"]


async def test_one_image_that_is_refused_refuses_all_and_frees_what_was_held(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = QueueFullError(waiting=9, limit=9, retry_after_seconds=2)
    answer = await ask(client, input=[URL] * 4)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    error = answer.json()["error"]
    # The load is the cause, and none of the images.
    assert (error["type"], error["param"]) == ("rate_limit_error", None)
    assert error["message"].startswith("9 requests are waiting")
    engines.error = None
    assert engines.held == 0
    assert (await ask(client)).status_code == 200


@pytest.mark.parametrize(
    "pairs",
    [
        '"input": "aGk=", "input": "URL"',
        '"input": ["aGk=", "aGk="], "input": "URL"',
        '"model": "moths", "mod\\u0065l": "demo", "input": "URL"',
        '"user": "\\\\", "user": "\\\\", "input": "URL"',
        '"encoding_format": "base64", "encoding_format": "float", "input": "URL"',
        '"dimensions": 3, "dimensions": null, "input": "URL"',
    ],
)
async def test_a_key_that_is_given_twice_is_refused(client: httpx.AsyncClient, pairs: str) -> None:
    body = '{"model": "demo", PAIRS}'.replace("PAIRS", pairs).replace("URL", URL)
    answer = await client.post("/v1/embeddings", content=body)
    assert answer.status_code == 400
    assert "has a key more than once" in answer.json()["error"]["message"]


@pytest.mark.parametrize("user", ["", '"', '\\"', "\\", '\\\\"', '{"input": "x"}', None])
async def test_quotes_in_a_value_are_no_keys(client: httpx.AsyncClient, user: str | None) -> None:
    answer = await ask(client, user=user, dimensions=None, input=[URL] * 3)
    assert answer.status_code == 200


async def test_a_body_may_begin_with_a_byte_order_mark(client: httpx.AsyncClient) -> None:
    body = codecs.BOM_UTF8 + json.dumps({"model": "demo", "input": URL}).encode()
    assert (await client.post("/v1/embeddings", content=body)).status_code == 200


async def test_waiting_for_a_decode_thread_ends_at_the_deadline(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    free = threading.Event()
    pipeline = app.state.pipeline
    busy = [pipeline.in_decode_thread(free.wait, 60) for _ in range(THREADS)]
    try:
        request = client.post("/v1/embeddings?timeout=0.05", json={"model": "demo", "input": URL})
        answer = await asyncio.wait_for(request, 10)
    finally:
        free.set()
        await asyncio.gather(*busy)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline-exceeded"


async def test_decoded_base64_counts_as_held_bytes(
    client: httpx.AsyncClient, app: FastAPI, engines: FakeEngines
) -> None:
    engines.hang = True
    limiter = app.state.pipeline.limiter
    body = json.dumps({"model": "demo", "input": [URL] * 3}).encode()
    request = asyncio.create_task(client.post("/v1/embeddings", content=body))
    await until_engines_have(engines, 3)
    pixels_bytes = sum(image.pixels.nbytes for image in engines.images)
    # Of a text with its prefix and padding.
    decoded_bytes = 3 * (len(URL) * 3 // 4)
    assert limiter.held_bytes == len(body) + decoded_bytes + pixels_bytes
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert limiter.held_bytes == 0


async def test_the_route_itself_answers_in_the_same_form(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get("/v1/embeddings"),
        await client.post("/v1/embeddings?layer=head", json={}),
        await client.post("/v1/embeddings", json={}, headers={"Accept": "image/png"}),
    ):
        assert answer.status_code in {405, 406, 422}
        assert answer.json()["error"]["message"]
