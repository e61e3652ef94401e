from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from pycocotools import mask as coco_mask

from model.images.masks import paste_mask
from model.scenes.scenes import draw_scene
from service.settings import Settings
from support.scene_files import png
from support.service_fakes import BOXES, CLASSIFIER, DETECTION_SCORES, FakeEngines, fake_app

HEIGHT, WIDTH = 64, 80
PICTURE = png(draw_scene(3, HEIGHT, WIDTH).image)
HEADERS = {"Content-Type": "image/png"}


@pytest.fixture
def app(engines: FakeEngines) -> FastAPI:
    settings = Settings(detect_model="mask_rcnn_overlock_xt", detect_weights="random")
    return fake_app(settings, engines)


async def detect(
    client: httpx.AsyncClient, query: str = "", accept: str = "*/*", status: int = 200
) -> httpx.Response:
    answer = await client.post(
        f"/v1/detect{query}", content=PICTURE, headers=HEADERS | {"Accept": accept}
    )
    assert answer.status_code == status, answer.text
    return answer


async def test_detections_come_with_class_score_and_box(client: httpx.AsyncClient) -> None:
    body = (await detect(client)).json()
    assert body["model"] == "mask_rcnn_overlock_xt"
    assert "x-model-weights" not in (await detect(client)).headers  # a file's
    assert body["image"] == {"width": WIDTH, "height": HEIGHT, "frames": 1}
    assert [found["label"] for found in body["detections"]] == ["star", "circle", "ring"]
    assert [found["class_id"] for found in body["detections"]] == [2, 0, 3]
    assert [found["box"] for found in body["detections"]] == BOXES.tolist()
    assert [found["score"] for found in body["detections"]] == DETECTION_SCORES.tolist()


async def test_a_mask_fills_its_box_in_cocos_run_lengths(client: httpx.AsyncClient) -> None:
    found = (await detect(client)).json()["detections"][0]
    (pixels,) = coco_mask.decode([found["mask"]]).transpose(2, 0, 1)
    want = np.zeros((HEIGHT, WIDTH), np.uint8)
    x1, y1, x2, y2 = BOXES[0].astype(int)
    want[y1:y2, x1:x2] = 1
    np.testing.assert_array_equal(pixels, want)


async def test_masks_can_be_left_out(client: httpx.AsyncClient) -> None:
    found = (await detect(client, "?masks=false")).json()["detections"]
    assert [each["mask"] for each in found] == [None, None, None]


@pytest.mark.parametrize(
    ("query", "count"),
    [("?score_threshold=0.5", 2), ("?max_detections=1", 1), ("?score_threshold=0.95", 0)],
)
async def test_the_caller_limits_the_detections(
    client: httpx.AsyncClient, query: str, count: int
) -> None:
    assert len((await detect(client, query)).json()["detections"]) == count


@pytest.mark.parametrize(
    ("query", "mentions"),
    [
        ("?score_threshold=0.01", "0.05"),
        ("?score_threshold=1.5", "1"),
        ("?max_detections=0", "1"),
        ("?max_detections=101", "100"),
        ("?masks=perhaps", "masks"),
    ],
)
async def test_a_parameter_out_of_range_is_refused_with_its_limit(
    client: httpx.AsyncClient, engines: FakeEngines, query: str, mentions: str
) -> None:
    problem = (await detect(client, query, status=422)).json()
    assert mentions in problem["detail"]
    assert engines.images == []


async def test_a_png_is_the_image_with_the_detections_drawn(client: httpx.AsyncClient) -> None:
    answer = await detect(client, "?score_threshold=0.5", accept="image/png")
    with Image.open(io.BytesIO(answer.content)) as image:
        drawn = np.asarray(image)
    with Image.open(io.BytesIO(PICTURE)) as image:
        changed = (drawn != np.asarray(image)).any(axis=2)
    assert changed[2:10, 4:20].mean() > 0.9
    assert not changed[46:, 60:].any()


async def test_the_network_gets_the_scaled_image_and_its_padded_size(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    await detect(client)
    (image,) = engines.images
    assert image.pixels.shape == (800, 1000, 3)
    assert image.size == (800, 1024)
    assert image.original_size == (HEIGHT, WIDTH)


def fill_the_image(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """Make every mask take its time; return when each was begun."""
    begun: list[float] = []

    def slow(*arguments: Any) -> Any:
        begun.append(time.monotonic())
        time.sleep(seconds)
        return paste_mask(*arguments)

    monkeypatch.setattr("model.images.masks.paste_mask", slow)
    return begun


@pytest.mark.slow
async def test_a_deadline_holds_while_the_answer_is_rendered(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = fill_the_image(monkeypatch, seconds=0.4)
    problem = (await detect(client, "?timeout=0.3", status=504)).json()
    assert problem["type"].endswith("deadline-exceeded")
    await asyncio.sleep(0.8)
    assert len(begun) == 1  # the other two masks were not begun


@pytest.mark.slow
async def test_a_slow_rendering_holds_up_no_decoding(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_image(monkeypatch, seconds=0.3)
    slow = [asyncio.create_task(detect(client)) for _ in range(6)]
    await asyncio.sleep(0.1)
    await client.post("/v1/classify", content=PICTURE, headers=HEADERS)
    assert not any(each.done() for each in slow[2:])
    await asyncio.gather(*slow)


async def test_a_service_without_a_detector_says_how_to_turn_it_on(
    client: httpx.AsyncClient, engines: FakeEngines
) -> None:
    engines.models = (CLASSIFIER,)
    problem = (await detect(client, status=404)).json()
    assert problem["type"].endswith("task-off")
    assert "OVERLOCK_DETECT_MODEL" in problem["detail"]
    assert "OVERLOCK_DETECT_WEIGHTS" in problem["detail"]
    assert engines.images == []


async def test_a_models_file_without_a_detector_is_where_to_turn_it_on(
    engines: FakeEngines,
) -> None:
    engines.models = (CLASSIFIER,)
    settings = Settings(models_file=Path("models.toml"))
    app = fake_app(settings, engines)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        problem = (await detect(client, status=404)).json()
    assert problem["detail"] == "No model of OVERLOCK_MODELS_FILE can detect; state one there."
