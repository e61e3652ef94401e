from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.errors import DeadlineUnreachableError, QueueFullError
from service.settings import Settings
from support.api_requests import photo
from support.protocol_calls import HEADER_LENGTH, binary_call, document, image_input
from support.service_fakes import DETECTOR, FakeEngines, fake_app

INFER = "/v2/models/demo/infer"
GOOD = document(photo())


def with_input(**fields: Any) -> dict[str, Any]:
    return {"inputs": [image_input(photo(), **fields)]}


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        ({}, 400, "missing required field `inputs`"),
        ({"inputs": []}, 400, "The call has 0 inputs; send image alone."),
        ({"inputs": GOOD["inputs"] * 2}, 400, "The call has 2 inputs"),
        (GOOD | {"output": []}, 400, "unknown field `output`"),
        (GOOD | {"id": 7}, 400, "Expected `str`, got `int`"),
        (GOOD | {"model_name": "other"}, 400, "model_name is 'other'; the path's is demo"),
        (GOOD | {"model_version": "7"}, 404, "no version '7' of demo; there is abababababab"),
        (GOOD | {"parameters": {"a": None}}, 400, "got `null`"),
        (GOOD | {"parameters": {"a": [1]}}, 400, "got `array`"),
        (GOOD | {"parameters": {"sequence_id": 5}}, 400, "no parameter 'sequence_id' of demo"),
        (GOOD | {"parameters": {"score_threshold": 0.5}}, 400, "there are top_k, logits"),
        (GOOD | {"parameters": {"model": "demo"}}, 400, "no parameter 'model'"),
        (GOOD | {"parameters": {"top_k": 0}}, 422, "top_k: "),
        (GOOD | {"parameters": {"top_k": True}}, 422, "top_k: write it as a whole number"),
        (GOOD | {"parameters": {"top_k": 5}}, 422, "top_k is 5; demo has 4 classes"),
        (GOOD | {"parameters": {"normalize": 1}}, 422, "normalize: write it as true or false"),
        (GOOD | {"parameters": {"timeout": -1}}, 422, "timeout is '-1'"),
        (GOOD | {"parameters": {"timeout": 1.5}}, 422, "whole number of microseconds"),
        (GOOD | {"parameters": {"timeout": True}}, 422, "whole number of microseconds"),
        (GOOD | {"parameters": {"binary_data_output": 1}}, 400, "has to be true or false"),
        (document(photo(), outputs=("nothing",)), 400, "no output 'nothing' of demo; there are"),
        (document(photo(), outputs=("scores", "scores")), 400, "asked for twice"),
        (
            GOOD | {"outputs": [{"name": "scores", "parameters": {"classification": 3}}]},
            400,
            "no parameter 'classification' of output scores; there is binary_data",
        ),
        (
            document(photo(), outputs=("embedding",), parameters={"layer": "nose"}),
            422,
            "layer is 'nose'; demo has head, backbone, stage1",
        ),
        (with_input(name="picture"), 400, "no input 'picture'; there is image"),
        (with_input(datatype="FP32"), 400, "Input image is 'FP32'; it has to be BYTES"),
        (with_input(shape=[2]), 400, "has the shape [2]: with 1 elements it has to be [1]"),
        (with_input(shape=[1, 1]), 400, "has the shape [1, 1]"),
        (with_input(shape=[-1]), 400, "no dimension can be negative"),
        (with_input(shape=[1.5]), 400, "Expected `int`"),
        (with_input(shape=[], data=[]), 400, "has the shape []"),
        (with_input(shape=[0], data=[]), 422, "has 0 images; it has to be 1 to 64"),
        (with_input(shape=[1], data=[]), 400, "has the shape [1]: it has 0 elements; send 1 to"),
        (with_input(data="aGk="), 400, "has to be a list of base64 texts"),
        (with_input(data=[{"b64": "aGk="}]), 400, "has to be a list of base64 texts"),
        (with_input(data=["a cat!"]), 400, "Input image: element 0 is not base64"),
        (with_input(data=["aGk="]), 422, "image[0]: "),
        (with_input(parameters={"shared_memory_region": "a"}), 400, "there is binary_data_size"),
        (with_input(parameters={"binary_data_size": 3}), 400, "both data and binary_data_size"),
        (
            with_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2]),
            400,
            "that is 3 values, and it has 2",
        ),
        (with_input(datatype="UINT8", shape=[1, 1, 1, 4], data=[1] * 4), 400, "width, 3]"),
        (with_input(datatype="UINT8", shape=[3], data=[1] * 3), 400, "width, 3]"),
        (
            with_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 256]),
            400,
            "values from 0 to 255",
        ),
        (
            with_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[[[[1, 2]], [[1]]]]),
            400,
            "flat or nested",
        ),
        (
            with_input(datatype="UINT8", shape=[1, 9000, 9000, 3], data=[1]),
            413,
            "9000 x 9000 pixels",
        ),
        (with_input(datatype="UINT8", shape=[1, 0, 9, 3], data=[]), 422, "no pixels"),
        (
            with_input(datatype="UINT8", shape=[65, 1, 1, 3], data=[1]),
            422,
            "has 65 images; it has to be 1 to 64",
        ),
    ],
)
async def test_a_bad_call_is_told_what_is_wrong(
    client: httpx.AsyncClient, call: dict[str, Any], status: int, message: str
) -> None:
    answer = await client.post(INFER, json=call)
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"inputs": ' + b"[" * 50_000,
        b'{"inputs": [], "inputs": []}',
        b'{"inputs": [], "parameters": {"top_k": 1, "top_k": 2}}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1,1,1,3], "data": '
        + b"[" * 40_000
        + b"]" * 40_000
        + b"}]}",
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": {}}]}',
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["\xff"]}]}',
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [99999999999999999999]}]}',
    ],
)
async def test_a_damaged_body_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(INFER, content=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}


def binary(size: Any, tensors: bytes, **fields: Any) -> tuple[bytes, dict[str, str]]:
    described = image_input(photo(), parameters={"binary_data_size": size}, **fields)
    del described["data"]
    return binary_call({"inputs": [described]}, tensors)


@pytest.mark.parametrize(
    ("size", "tensors", "status", "message"),
    [
        (5, b"\x02\0\0\0", 400, "binary_data_size 5; 4 bytes follow the JSON"),
        (-1, b"", 400, "binary_data_size -1"),
        (True, b"a", 400, "binary_data_size True"),
        ("4", b"\0\0\0\0", 400, "binary_data_size 4"),
        (4, b"\0\0\0\0more", 400, "8 bytes follow the JSON; its inputs have binary_data_size 4"),
        (2, b"\0\0", 400, "has its length before it, in 4 bytes, little endian"),
        (9, b"\xff\xd8\xff\xe0image", 400, "has its length before it, in 4 bytes"),
        (8, b"\x01\0\0\0a\x01\0\0", 400, "element 1 ends behind"),
        (8, b"\0\0\0\0" * 2, 400, "with 2 elements it has to be [2]"),
        (4 * 65, b"\0\0\0\0" * 65, 422, "it has to be 1 to 64"),
        (4, b"\0\0\0\0", 422, "image[0]: "),
    ],
)
async def test_bad_binary_tensors_are_explained(
    client: httpx.AsyncClient, size: Any, tensors: bytes, status: int, message: str
) -> None:
    body, headers = binary(size, tensors)
    answer = await client.post(INFER, content=body, headers=headers)
    assert message in answer.json()["error"]
    assert answer.status_code == status


@pytest.mark.parametrize("length", ["-1", "x", "", "1e3", "999999", "9" * 5000, "\u00b2"])
async def test_a_wrong_header_length_is_explained(client: httpx.AsyncClient, length: str) -> None:
    headers = {HEADER_LENGTH.encode(): length.encode("latin-1")}
    answer = await client.post(INFER, content=b"{}", headers=headers)
    assert answer.status_code == 400
    assert "it has to be the bytes of the JSON, of 2 in all" in answer.json()["error"]


async def test_a_binary_tensor_without_the_header_names_it(client: httpx.AsyncClient) -> None:
    body, _ = binary(4, b"")
    answer = await client.post(INFER, content=body)
    assert answer.status_code == 400
    assert HEADER_LENGTH in answer.json()["error"]


@pytest.mark.parametrize("name", ["demo-segment", DETECTOR.name])
async def test_a_dense_model_takes_one_image_a_call(client: httpx.AsyncClient, name: str) -> None:
    call = document(photo(), photo())
    answer = await client.post(f"/v2/models/{name}/infer", json=call)
    assert answer.status_code == 422
    assert "The call has 2 images" in answer.json()["error"]


async def test_more_images_than_places_are_refused_for_good(engines: FakeEngines) -> None:
    settings = Settings(max_queue_requests=2)
    app = fake_app(settings, engines)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.post(INFER, json=document(*[photo()] * 3))
    assert answer.status_code == 422
    assert "OVERLOCK_MAX_QUEUE_REQUESTS" in answer.json()["error"]


async def test_a_full_queue_is_429_with_retry_after(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = QueueFullError(waiting=3, limit=3, retry_after_seconds=2.0)
    answer = await client.post(INFER, json=document(photo(), photo()))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"].startswith("3 requests are waiting")


@pytest.mark.parametrize("late", [None, DeadlineUnreachableError(needed_seconds=1, left_seconds=0)])
async def test_a_timeout_of_a_microsecond_is_no_bad_request(
    client: httpx.AsyncClient, engines: FakeEngines, late: Exception | None
) -> None:
    answers = []
    for call in (GOOD, document(photo(), photo(), outputs=("embedding",))):
        engines.late = None
        engines.hang = True
        answers.append(await client.post(INFER, json=call | {"parameters": {"timeout": 1}}))
    assert {answer.status_code for answer in answers} <= {429, 504}
    assert answers[0].json()["error"] == "There was no answer within 0.000001 seconds."


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v2/models/none/infer", 404, "no model 'none'; there are demo"),
        ("/v2/models/demo/versions/7/infer", 404, "no version '7'"),
        (
            "/v2/models/demo/infer?top_k=1",
            422,
            "no parameter top_k. The parameters of a call stand in its body.",
        ),
        ("/v2/models/demo/generate", 404, "Not Found"),
        ("/v2/models/demo", 405, "Method Not Allowed"),
    ],
)
async def test_a_wrong_path_is_an_error_of_the_protocol(
    client: httpx.AsyncClient, path: str, status: int, message: str
) -> None:
    answer = await client.post(path, json=GOOD)
    assert answer.status_code == status
    assert message in answer.json()["error"]


async def test_without_an_engine_the_model_is_not_ready(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.ready = False
    for path in ("/v2/health/ready", "/v2/models/demo/ready", "/v2/models/demo"):
        answer = await client.get(path)
        assert answer.status_code == 503
        assert set(answer.json()) == {"error"}
    assert (await client.get("/v2/health/live")).json() == {"live": True}


async def test_keys_guard_all_but_the_health(tmp_path: Path, engines: FakeEngines) -> None:
    keys = tmp_path / "keys"
    keys.write_text("")
    app = fake_app(Settings(api_keys_file=keys), engines)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for path in ("", "/models/demo", "/models/demo/config", "/models/demo/stats"):
            answer = await client.get(f"/v2{path}")
            assert answer.status_code == 401
            assert set(answer.json()) == {"error"}
        assert (await client.post(INFER, json=GOOD)).status_code == 401
        for path in ("live", "ready"):
            assert (await client.get(f"/v2/health/{path}")).status_code == 200


async def test_a_body_over_the_limit_is_413(client: httpx.AsyncClient) -> None:
    answer = await client.post(INFER, content=json.dumps(GOOD).encode() + b" " * 100_000)
    assert answer.status_code == 413
    assert "OVERLOCK_MAX_BODY_BYTES" in answer.json()["error"]
