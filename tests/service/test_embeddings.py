from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.errors import QueueFullError
from support.api_requests import photo
from support.service_fakes import CLASSIFIER, FakeEngines

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
        ({"input": ["a cat!"]}, 400, "malformed-request", "input", "input[0] is not base64"),
        ({"input": [URL, "aGk="]}, 422, "invalid-image", "input", "input[1]: "),
        ({"input": 3}, 400, "malformed-request", None, "The body has to be JSON like"),
        ({"encoding_format": "hex"}, 400, "malformed-request", None, "hex"),
        ({"images": [URL]}, 400, "malformed-request", None, "images"),
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
    assert answer.json()["error"]["type"] == "rate_limit_error"
    engines.error = None
    assert engines.held == 0
    assert (await ask(client)).status_code == 200


async def test_the_route_itself_answers_in_the_same_form(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get("/v1/embeddings"),
        await client.post("/v1/embeddings?layer=head", json={}),
        await client.post("/v1/embeddings", json={}, headers={"Accept": "image/png"}),
    ):
        assert answer.status_code in {405, 406, 422}
        assert answer.json()["error"]["message"]
