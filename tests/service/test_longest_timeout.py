"""The longest timeout of the settings, over every protocol."""

from __future__ import annotations

import base64

import httpx
import pytest

from service.settings import Settings
from support.api_requests import JPEG, is_problem, photo
from support.grpc_calls import GrpcClient, infer_request
from support.service_fakes import FakeEngines

LONGEST_SECONDS = 40.0


@pytest.fixture
def settings() -> Settings:
    return Settings(max_timeout_seconds=LONGEST_SECONDS)


async def test_a_request_that_asks_for_more_is_refused(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await client.post("/v1/classify?timeout=41", content=photo(), headers=JPEG)
    assert "at most 40" in is_problem(answer, 422, "invalid-parameter")
    assert engines.images == []
    await client.post("/v1/classify?timeout=40", content=photo(), headers=JPEG)
    assert engines.timeouts == [LONGEST_SECONDS]


async def test_calls_whose_clients_always_state_one_get_the_longest(
    client: httpx.AsyncClient, grpc_calls: GrpcClient, engines: FakeEngines
) -> None:
    image = {"name": "image", "shape": [1], "datatype": "BYTES"}
    call = {
        "inputs": [image | {"data": [base64.b64encode(photo()).decode()]}],
        "parameters": {"timeout": 100_000_000},
    }
    answer = await client.post("/v2/models/demo/infer", json=call)
    assert answer.status_code == 200, answer.text
    await grpc_calls.call(infer_request(photo()), timeout=100)
    assert engines.timeouts == [LONGEST_SECONDS, LONGEST_SECONDS]


async def test_the_document_names_it(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    (timeout,) = (
        each for each in paths["/v1/classify"]["post"]["parameters"] if each["name"] == "timeout"
    )
    assert timeout["schema"]["maximum"] == LONGEST_SECONDS
