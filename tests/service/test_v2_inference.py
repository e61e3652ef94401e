from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from fastapi import FastAPI

from model.config import Operation, Task
from service.link.messages import Question
from service.settings import Settings
from support.api_requests import photo
from support.image_writers import encoded
from support.protocol_calls import (
    HEADER_LENGTH,
    binary_call,
    binary_images,
    document,
    image_input,
    tensors_of,
)
from support.service_fakes import (
    CLASSIFIER,
    DETECTOR,
    LOGITS,
    FakeEngines,
    fake_app,
    until_engines_have,
)

INFER = "/v2/models/demo/infer"
SEGMENT = "/v2/models/demo-segment/infer"
DETECT = f"/v2/models/{DETECTOR.name}/infer"


async def ask(client: httpx.AsyncClient, url: str = INFER, **fields: Any) -> dict[str, Any]:
    answer = await client.post(url, json=document(photo(), **fields))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_image_is_classified_with_the_numbers_of_v1(client: httpx.AsyncClient) -> None:
    first = (await client.post("/v1/classify", content=photo())).json()["predictions"]
    answer = await client.post(INFER, json=document(photo(), id="a call"))
    assert answer.json() == {
        "model_name": "demo",
        "model_version": "ab" * 6,
        "id": "a call",
        "outputs": [
            {
                "name": name,
                "datatype": datatype,
                "shape": [1, 4],
                "data": [each[field] for each in first],
            }
            for name, datatype, field in (
                ("class_ids", "INT64", "class_id"),
                ("scores", "FP32", "score"),
                ("labels", "BYTES", "label"),
            )
        ],
    }
    assert answer.headers["x-model-digest"] == CLASSIFIER.weights_sha256
    assert answer.headers["x-model-weights"] == "demo"
    assert "decode" in answer.headers["server-timing"]


async def test_a_version_may_be_named(client: httpx.AsyncClient) -> None:
    url = f"/v2/models/demo/versions/{'ab' * 6}/infer"
    answer = await ask(client, url, model_name="demo", model_version="ab" * 6)
    assert answer["model_version"] == "ab" * 6


async def test_each_image_is_a_request_of_its_own(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await client.post(INFER, json=document(*[photo(30, 20)] * 64, parameters={"top_k": 2}))
    assert [output["shape"] for output in answer.json()["outputs"]] == [[64, 2]] * 3
    assert len(engines.images) == 64
    assert engines.held == 0


async def test_images_keep_their_order(client: httpx.AsyncClient, engines: FakeEngines) -> None:
    files = [encoded(np.full((224, 224, 3), shade, np.uint8), "PNG") for shade in (10, 20, 30)]
    body, headers = binary_images(*files)
    await client.post(INFER, content=body, headers=headers)
    assert sorted(int(image.pixels[0, 0, 0]) for image in engines.images) == [10, 20, 30]


async def test_binary_tensors_go_both_ways(client: httpx.AsyncClient) -> None:
    body, headers = binary_images(photo(), photo(), parameters={"binary_data_output": True})
    answer = await client.post(INFER, content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    found = tensors_of(answer)
    np.testing.assert_array_equal(
        np.frombuffer(found["class_ids"], "<i8").reshape(2, 4), [[2, 1, 0, 3]] * 2
    )
    assert np.frombuffer(found["scores"], "<f4")[0] == pytest.approx(0.65)
    assert found["labels"].startswith(b"\x04\0\0\0star\x06\0\0\0square")


async def test_an_output_says_for_itself_whether_it_is_binary(client: httpx.AsyncClient) -> None:
    outputs = [
        {"name": "labels", "parameters": {"binary_data": False}},
        {"name": "scores", "parameters": {"binary_data": True}},
        {"name": "class_ids"},
    ]
    body, headers = binary_images(photo(), binary=False, outputs=outputs)
    answer = await client.post(INFER, content=body, headers=headers)
    found = tensors_of(answer)
    assert list(found) == ["labels", "scores", "class_ids"]
    assert found["labels"] == ["star", "square", "circle", "ring"]
    assert len(found["scores"]) == 16
    assert found["class_ids"] == [2, 1, 0, 3]


async def test_a_body_may_be_compressed(client: httpx.AsyncClient) -> None:
    body, headers = binary_images(photo())
    headers |= {"Content-Encoding": "gzip"}
    answer = await client.post(INFER, content=gzip.compress(body), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("flat", [True, False])
async def test_decoded_images_are_taken_in_json(
    client: httpx.AsyncClient, engines: FakeEngines, *, flat: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    data = pixels.reshape(-1).tolist() if flat else pixels.tolist()
    decoded = image_input(datatype="UINT8", shape=pixels.shape, data=data)
    app_limits = Settings(max_image_pixels=1_000_000)
    app = fake_app(app_limits, engines)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.post(INFER, json={"inputs": [decoded]})
    assert answer.status_code == 200, answer.text
    for image in pixels:
        assert any(np.array_equal(image, sent.pixels) for sent in engines.images)


@pytest.mark.parametrize("url", [INFER, SEGMENT, DETECT])
async def test_a_decoded_image_becomes_the_same_input_as_its_file(
    client: httpx.AsyncClient, engines: FakeEngines, url: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 77, 131, 3), np.uint8)
    described = {
        "name": "image",
        "datatype": "UINT8",
        "shape": pixels.shape,
        "parameters": {"binary_data_size": pixels.size},
    }
    body, headers = binary_call({"inputs": [described]}, pixels.tobytes())
    by_pixels = await client.post(url, content=body, headers=headers)
    by_file = await client.post(url, json=document(encoded(pixels[0], "PNG")))
    assert by_pixels.status_code == 200, by_pixels.text
    assert tensors_of(by_pixels) == tensors_of(by_file)
    first, second = engines.images
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert (first.size, first.original_size) == (second.size, second.original_size)


async def test_logits_and_embeddings_are_answered_on_demand(client: httpx.AsyncClient) -> None:
    parameters = {"layer": "backbone", "normalize": True}
    answer = await ask(client, outputs=("embedding", "logits"), parameters=parameters)
    embedding, logits = answer["outputs"]
    assert (embedding["name"], embedding["shape"]) == ("embedding", [1, 4])
    one = await client.post("/v1/embed?layer=backbone&normalize=true", content=photo())
    assert embedding["data"] == one.json()["embedding"]
    np.testing.assert_array_equal(np.float32(logits["data"]), LOGITS)


async def test_an_embedding_alone_is_one_pass(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await client.post(SEGMENT, json=document(photo(), photo(), outputs=("embedding",)))
    (embedding,) = answer.json()["outputs"]
    assert embedding["shape"] == [2, 4]
    assert len(engines.images) == 2


async def test_logits_true_adds_the_logits_to_the_first_outputs(client: httpx.AsyncClient) -> None:
    answer = await ask(client, parameters={"logits": True})
    assert [output["name"] for output in answer["outputs"]][3:] == ["logits"]


async def test_an_image_is_segmented(client: httpx.AsyncClient) -> None:
    answer = await ask(client, SEGMENT)
    label_map, class_ids, fractions = answer["outputs"]
    one, height, width = label_map["shape"]
    assert (one, len(label_map["data"])) == (1, height * width)
    np.testing.assert_array_equal(np.array(label_map["data"]).reshape(height, width)[0, 0], 2)
    assert class_ids["data"] == [0, 2] or class_ids["data"] == [2, 0]
    assert sum(fractions["data"]) == pytest.approx(1)


async def test_a_long_label_map_is_written_whole(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await ask(client, SEGMENT)
    monkeypatch.setattr("service.web.v2.http_messages.STRIP_VALUES", 100)
    assert await ask(client, SEGMENT) == whole


async def test_objects_are_detected_with_masks_on_demand(client: httpx.AsyncClient) -> None:
    names = ("boxes", "scores", "class_ids", "labels", "masks")
    parameters = {"score_threshold": 0.5, "max_detections": 2}
    answer = await ask(client, DETECT, outputs=names, parameters=parameters)
    found = {output["name"]: output for output in answer["outputs"]}
    url = "/v1/detect?score_threshold=0.5&max_detections=2"
    want = (await client.post(url, content=photo())).json()["detections"]
    assert found["boxes"]["shape"] == [1, 2, 4]
    assert found["boxes"]["data"] == [side for each in want for side in each["box"]]
    assert found["scores"]["data"] == [each["score"] for each in want]
    assert found["labels"]["data"] == [each["label"] for each in want]
    assert [json.loads(mask) for mask in found["masks"]["data"]] == [each["mask"] for each in want]


async def test_no_detection_is_an_empty_tensor(client: httpx.AsyncClient) -> None:
    answer = await ask(
        client, DETECT, outputs=("boxes", "masks"), parameters={"score_threshold": 1.0}
    )
    assert [(each["shape"], each["data"]) for each in answer["outputs"]] == [
        ([1, 0, 4], []),
        ([1, 0], []),
    ]


@pytest.mark.parametrize(
    ("microseconds", "seconds"), [(2_500_000, 2.5), ("2500000", 2.5), (0, 30.0), (10**12, 600.0)]
)
async def test_the_timeout_is_in_microseconds(
    client: httpx.AsyncClient, engines: FakeEngines, microseconds: int | str, seconds: float
) -> None:
    await ask(client, parameters={"timeout": microseconds})
    assert engines.timeouts == [seconds]


async def test_a_client_that_leaves_frees_all_places(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.hang = True
    limiter = app.state.pipeline.limiter
    outputs = ("class_ids", "embedding")
    call = asyncio.create_task(
        client.post(INFER, json=document(photo(), photo(), photo(), outputs=outputs))
    )
    await until_engines_have(engines, 3)
    assert limiter.taken == {
        Operation("demo", Task.CLASSIFY): 3,
        Operation("demo", Task.EMBED): 3,
    }
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert not limiter.taken
    assert limiter.held_bytes == 0
    assert engines.held == 0


async def test_the_first_error_ends_the_call_and_cancels_the_other_images(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.hang = True
    files = [photo(), photo(), b"no image"]
    answer = await client.post(INFER, json=document(*files))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("image[2]: ")
    assert not app.state.pipeline.limiter.taken


async def test_a_question_is_asked_by_layer(
    client: httpx.AsyncClient, engines: FakeEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[Question] = []
    submit = engines.submit

    async def noted(model: Any, question: Question, *rest: Any, **others: Any) -> Any:
        questions.append(question)
        return await submit(model, question, *rest, **others)

    monkeypatch.setattr(engines, "submit", noted)
    await ask(client, outputs=("embedding",), parameters={"layer": "stage1"})
    assert questions == [Question(Task.EMBED, layer="stage1")]


async def test_the_answer_of_a_label_map_is_bytes_of_its_pixels(client: httpx.AsyncClient) -> None:
    body, headers = binary_images(photo())
    answer = await client.post(SEGMENT, content=body, headers=headers)
    length = int(answer.headers[HEADER_LENGTH])
    outputs = msgspec.json.decode(answer.content[:length])["outputs"]
    label_map = tensors_of(answer)["label_map"]
    assert len(label_map) == np.prod(outputs[0]["shape"])
    assert label_map[0] == 2
