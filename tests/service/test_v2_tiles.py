"""The Open Inference Protocol's parameters ``tile`` and ``overlap`` are those of ``/v1``."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from model.scenes.scenes import draw_scene
from service.settings import Settings
from support.protocol_calls import binary_call, document
from support.scene_files import png
from support.service_fakes import FakeEngines, fake_app

HEIGHT, WIDTH = 600, 900
SCENE = draw_scene(3, HEIGHT, WIDTH).image
PASSES = 1 + 2 * 3
TILED = {"tile": 400, "overlap": 0.2}
SEGMENT, DETECT = "/v2/models/demo-segment/infer", "/v2/models/mask_rcnn_overlock_xt/infer"


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    settings = Settings(max_body_bytes=4 * 2**20, max_queue_bytes=32 * 2**20)
    return fake_app(settings, engines)


def by_pixels(parameters: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    described = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [1, HEIGHT, WIDTH, 3],
        "parameters": {"binary_data_size": SCENE.nbytes},
    }
    return binary_call({"inputs": [described], "parameters": parameters}, SCENE.tobytes())


async def test_segments_of_tiles_are_those_of_v1(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await client.post(SEGMENT, json=document(png(SCENE), parameters=TILED))
    assert answer.status_code == 200, answer.text
    assert len(engines.images) == PASSES
    assert all(question.logits for question in engines.questions)
    (label_map,) = (each for each in answer.json()["outputs"] if each["name"] == "label_map")
    assert label_map["shape"] == [1, HEIGHT, WIDTH]
    labels = np.array(label_map["data"]).reshape(HEIGHT, WIDTH)
    v1 = await client.post("/v1/segment?tile=400&overlap=0.2", content=png(SCENE))
    fractions = {each["class_id"]: each["fraction"] for each in v1.json()["classes"]}
    assert {int(label): (labels == label).mean() for label in np.unique(labels)} == pytest.approx(
        fractions
    )
    assert (labels[:, 10:190] == 2).all()


async def test_objects_of_tiles_are_those_of_v1(client: httpx.AsyncClient) -> None:
    outputs = ("boxes", "scores", "masks")
    call = document(png(SCENE), outputs=outputs, parameters=TILED)
    answer = await client.post(DETECT, json=call)
    found = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    v1 = await client.post("/v1/detect?tile=400&overlap=0.2", content=png(SCENE))
    want = v1.json()["detections"]
    assert found["boxes"] == [side for each in want for side in each["box"]]
    assert found["scores"] == [each["score"] for each in want]
    assert [json.loads(mask) for mask in found["masks"]] == [each["mask"] for each in want]


@pytest.mark.parametrize("url", [SEGMENT, DETECT])
async def test_pixels_are_tiled_as_a_file_is(client: httpx.AsyncClient, url: str) -> None:
    body, headers = by_pixels(TILED)
    pixels = await client.post(url, content=body, headers=headers)
    file = await client.post(url, json=document(png(SCENE), parameters=TILED))
    assert pixels.status_code == 200, pixels.text
    assert pixels.json() == file.json()


@pytest.mark.parametrize(
    ("url", "call", "message"),
    [
        (SEGMENT, {"parameters": {"tile": 255}}, "tile"),
        (SEGMENT, {"parameters": {"overlap": 0.2}}, "there is nothing to overlap without tile"),
        (SEGMENT, {"parameters": TILED, "outputs": ("embedding",)}, "is of the whole image"),
        (DETECT, {"parameters": TILED | {"overlap": "0.7"}}, "overlap"),
    ],
)
async def test_tiles_that_make_no_sense_are_refused(
    client: httpx.AsyncClient, engines: FakeEngines, url: str, call: dict[str, Any], message: str
) -> None:
    answer = await client.post(url, json=document(png(SCENE), **call))
    assert answer.status_code == 422
    assert message in answer.json()["error"]
    assert engines.images == []


async def test_too_many_passes_are_refused_by_number(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    large = png(np.zeros((2500, 3000, 3), np.uint8))
    answer = await client.post(SEGMENT, json=document(large, parameters={"tile": 256}))
    assert answer.status_code == 422
    assert "would take 181 passes" in answer.json()["error"]
    assert engines.images == []


async def test_a_classifier_has_no_tiles(client: httpx.AsyncClient) -> None:
    call = document(png(SCENE), parameters={"tile": 400})
    answer = await client.post("/v2/models/demo/infer", json=call)
    assert answer.status_code == 400
    assert "There is no parameter 'tile' of demo" in answer.json()["error"]
