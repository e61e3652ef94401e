from __future__ import annotations

import asyncio
import base64
import io

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from model.evaluation.metrics import SegmentationCounts
from model.scenes.scenes import SEGMENT_NAMES, Scene, draw_scene
from support.image_samples import good_samples
from support.running_service import CLIENT, RunningService
from support.scene_files import png

FRESH_SEED = 510_000
"""Held out: training starts at ``HELD_OUT_SEEDS_END``."""

PNG = {"Content-Type": "image/png"}
GOOD = good_samples()
SOME_GOOD = list(GOOD)[::8]
"""All of them are classified in test_classify.py; decoding is the same."""


def segment(
    service: RunningService, body: bytes, query: str = "", accept: str = "application/json"
) -> httpx.Response:
    answer = CLIENT.post(
        f"{service.url}/v1/segment{query}",
        content=body,
        headers=PNG | {"Accept": accept},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return answer


def label_map(answer: httpx.Response) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(FRESH_SEED, 360, 480)


def test_drawn_scenes_are_segmented_right(demo: RunningService) -> None:
    counts = SegmentationCounts(len(SEGMENT_NAMES))
    for index in range(40):
        drawn = draw_scene(FRESH_SEED + index, 224 + 16 * (index % 3), 256)
        counts.add(label_map(segment(demo, png(drawn.image), accept="image/png")), drawn.label_map)
    metrics = counts.metrics()
    assert metrics["miou"] is not None
    assert metrics["miou"] >= 75  # forty scenes, at sizes that it was not trained on
    assert metrics["pixel_accuracy"] is not None
    assert metrics["pixel_accuracy"] >= 95


def test_all_forms_of_an_answer_say_the_same(demo: RunningService, scene: Scene) -> None:
    body = png(scene.image)
    want = label_map(segment(demo, body, accept="image/png"))
    assert want.shape == (360, 480)
    answer = segment(demo, body).json()
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]["data"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), want)
    for entry in segment(demo, body, "?mask=rle").json()["mask"]["data"]:
        (pixels,) = coco_mask.decode([entry]).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels == 1, want == entry["class_id"])
    assert {each["class_id"]: each["pixels"] for each in answer["classes"]} == {
        class_id: int((want == class_id).sum()) for class_id in np.unique(want).tolist()
    }
    assert sum(each["fraction"] for each in answer["classes"]) == pytest.approx(1)


def test_the_overlay_tints_the_image_with_each_classes_colour(
    demo: RunningService, scene: Scene
) -> None:
    body = png(scene.image)
    answer = segment(demo, body)
    with Image.open(io.BytesIO(base64.b64decode(answer.json()["mask"]["data"]))) as image:
        labels = np.asarray(image)
    with Image.open(io.BytesIO(segment(demo, body, "?view=overlay", "image/png").content)) as image:
        drawn = np.asarray(image).astype(float)
    for each in answer.json()["classes"]:
        color = np.array([int(each["color"][at : at + 2], 16) for at in (1, 3, 5)])
        inside = labels == each["class_id"]
        before = np.abs(scene.image[inside] - color).mean()
        assert np.abs(drawn[inside] - color).mean() < 0.9 * before


def test_a_small_and_a_wide_image_get_label_maps_of_their_size(demo: RunningService) -> None:
    for height, width in ((1, 1), (5, 900), (33, 47)):
        pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
        answer = segment(demo, png(pixels), accept="image/png")
        assert label_map(answer).shape == (height, width)


@pytest.mark.parametrize("name", SOME_GOOD)
def test_every_kind_of_image_is_segmented_in_its_upright_size(
    demo: RunningService, name: str
) -> None:
    sample = GOOD[name]
    headers = {"Content-Type": sample.media_type}
    url = f"{demo.url}/v1/segment?mask=none"
    answer = CLIENT.post(url, content=sample.body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    facts = answer.json()["image"]
    assert (facts["height"], facts["width"]) == sample.rgb.shape[:2]


def test_a_bad_image_is_refused(demo: RunningService) -> None:
    url = f"{demo.url}/v1/segment"
    answer = CLIENT.post(url, content=png(np.zeros((9, 9, 3), np.uint8))[:60], headers=PNG)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_scenes_of_one_shape_share_batches_and_keep_their_answers(
    demo: RunningService,
) -> None:
    bodies = [png(draw_scene(FRESH_SEED + index, 96, 128).image) for index in range(8)]
    alone = [segment(demo, body).json() for body in bodies]
    async with httpx.AsyncClient(timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post(f"{demo.url}/v1/segment", content=b, headers=PNG) for b in bodies)
        )
    together = [answer.json() for answer in answers]
    assert max(each["timing"]["batch_size"] for each in together) > 1
    for one, other in zip(alone, together, strict=True):
        for class_id in range(len(SEGMENT_NAMES)):
            shares = [
                sum(c["fraction"] for c in each["classes"] if c["class_id"] == class_id)
                for each in (one, other)
            ]
            assert shares[0] == pytest.approx(shares[1], abs=1e-3)


def test_detection_is_off_and_says_how_to_turn_it_on(demo: RunningService) -> None:
    answer = CLIENT.post(f"{demo.url}/v1/detect", content=b"", headers=PNG)
    assert answer.status_code == 404
    assert "OVERLOCK_DETECT_MODEL" in answer.json()["detail"]
