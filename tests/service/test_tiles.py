"""Large images in tiles: passes, limits, errors and cancellation, with a fake engine."""

from __future__ import annotations

import asyncio
import io

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from pycocotools import mask as coco_mask

from model.scenes.scenes import draw_scene
from service.api.errors import QueueFullError
from service.settings import Settings
from service.web.pipeline import Pipeline
from support.scene_files import png
from support.service_fakes import FakeEngines, fake_app, halves, until_engines_have

HEIGHT, WIDTH = 600, 900
PICTURE = png(draw_scene(3, HEIGHT, WIDTH).image)
TILED = "/v1/segment?tile=400"
"""Two rows of three overlapping tiles, 320 pixels apart, and the whole image."""

PASSES = 1 + 2 * 3


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    settings = Settings(
        max_queue_requests=2 * PASSES, max_body_bytes=2 * 2**20, max_queue_bytes=16 * 2**20
    )
    return fake_app(settings, engines)


async def ask(
    client: httpx.AsyncClient, path: str = TILED, accept: str = "application/json"
) -> httpx.Response:
    headers = {"Content-Type": "image/png", "Accept": accept}
    return await client.post(path, content=PICTURE, headers=headers)


def nothing_is_held(app: FastAPI, engines: FakeEngines) -> bool:
    pipeline: Pipeline = app.state.pipeline
    limiter = pipeline.limiter
    return limiter.held_bytes == 0 and not any(limiter.taken.values()) and engines.held == 0


async def test_the_whole_image_and_each_tile_are_images_of_their_own(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await ask(client)
    assert answer.status_code == 200, answer.text
    assert [image.original_size for image in engines.images] == [
        (HEIGHT, WIDTH),
        *[(400, 400)] * (PASSES - 1),
    ]
    assert [image.size for image in engines.images] == [(160, 256), *[(160, 160)] * (PASSES - 1)]
    assert all(question.logits for question in engines.questions)
    assert answer.json()["image"] == {"width": WIDTH, "height": HEIGHT, "frames": 1}


async def test_the_label_map_has_the_images_size_and_blends_all_passes(
    client: httpx.AsyncClient,
) -> None:
    answer = await ask(client, accept="image/png")
    with Image.open(io.BytesIO(answer.content)) as image:
        labels = np.asarray(image)
    assert labels.shape == (HEIGHT, WIDTH)
    # Each tile's left half is class 2, whatever the whole image says there with half the weight.
    assert (labels[:, 10:190] == 2).all()
    assert (labels[:, -190:-10] == 0).all()


async def test_an_image_that_fits_in_a_tile_is_answered_as_without(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    answer = await ask(client, "/v1/segment?tile=900", accept="image/png")
    with Image.open(io.BytesIO(answer.content)) as image:
        np.testing.assert_array_equal(np.asarray(image), halves(HEIGHT, WIDTH))
    (question,) = engines.questions
    assert not question.logits


async def test_detections_are_merged_in_the_images_pixels(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    found = (await ask(client, "/v1/detect?tile=400&max_detections=12")).json()["detections"]
    assert len(engines.images) == PASSES
    assert len(found) == 12
    assert [each["score"] for each in found] == sorted((d["score"] for d in found), reverse=True)
    # The same box in every tile, at the tile's own place.
    best = {tuple(each["box"][:2]) for each in found if each["class_id"] == 2}
    assert best >= {(4.0, 2.0), (324.0, 2.0), (504.0, 202.0)}
    for each in found:
        (pixels,) = coco_mask.decode([each["mask"]]).transpose(2, 0, 1)
        assert pixels.shape == (HEIGHT, WIDTH)
        left, top, right, bottom = map(int, each["box"])
        assert pixels[top:bottom, left:right].all()


async def test_detections_in_tiles_are_drawn(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "/v1/detect?tile=400", accept="image/png")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("task", ["segment", "detect"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("tile=255", "tile"),
        ("tile=8193", "tile"),
        ("tile=1e3", "digits alone"),
        ("tile=400&overlap=0.6", "overlap"),
        ("overlap=0.2", "there is nothing to overlap without tile"),
    ],
)
async def test_tiles_that_make_no_sense_are_refused(
    client: httpx.AsyncClient, engines: FakeEngines, task: str, query: str, message: str
) -> None:
    answer = await ask(client, f"/v1/{task}?{query}")
    assert answer.status_code == 422
    assert message in answer.json()["detail"]
    assert engines.images == []


async def test_too_many_passes_are_refused_with_the_tile_that_would_do(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    large = png(np.zeros((2500, 3000, 3), np.uint8))
    headers = {"Content-Type": "image/png"}
    answer = await client.post("/v1/segment?tile=256", content=large, headers=headers)
    assert answer.status_code == 422
    assert "would take 181 passes" in answer.json()["detail"]
    assert "tile=432 would do" in answer.json()["detail"]
    assert engines.images == []
    assert nothing_is_held(app, engines)


async def test_each_pass_takes_a_place_and_a_call_that_finds_too_few_is_refused(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.hang = True
    waiting = [asyncio.create_task(ask(client)) for _ in range(2)]
    await until_engines_have(engines, 2 * PASSES)
    pipeline: Pipeline = app.state.pipeline
    assert list(pipeline.limiter.taken.values()) == [2 * PASSES]
    answer = await ask(client)
    assert answer.status_code == 429
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert engines.cancelled.is_set()
    assert nothing_is_held(app, engines)


async def test_more_passes_than_places_can_never_be_taken(engines: FakeEngines) -> None:
    app = fake_app(Settings(max_queue_requests=PASSES - 1), engines)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await ask(client)
    assert answer.status_code == 422
    assert f"{PASSES} images or tiles" in answer.json()["detail"]


async def test_the_first_error_is_the_calls_and_frees_all_places(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.error = QueueFullError(waiting=3, limit=3, retry_after_seconds=2.0)
    answer = await ask(client)
    assert answer.status_code == 429
    assert nothing_is_held(app, engines)


async def test_the_deadline_holds_for_the_whole_call(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.down = True
    answer = await ask(client, f"{TILED}&timeout=0.5")
    assert answer.status_code == 503
    assert set(engines.timeouts) == {0.5}
    assert nothing_is_held(app, engines)


async def test_the_inputs_of_all_passes_are_counted(
    app: FastAPI, client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.hang = True
    waiting = asyncio.create_task(ask(client))
    await until_engines_have(engines, PASSES)
    pipeline: Pipeline = app.state.pipeline
    inputs = sum(image.pixels.nbytes for image in engines.images)
    assert pipeline.limiter.held_bytes == len(PICTURE) + inputs
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert nothing_is_held(app, engines)
