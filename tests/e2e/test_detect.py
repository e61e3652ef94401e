"""A detector behind the real service. Its weights are the reference's: its boxes are many and sure,
and mean nothing; that they are the right numbers is checked in tests/golden."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from model.labels.tables import coco_labels
from model.scenes.scenes import draw_scene
from support.checkpoints import official_state
from support.command_line import overlock
from support.documents import run_curl
from support.running_service import CLIENT, RunningService
from support.scene_files import png

HEIGHT, WIDTH = 64, 512
"""Wide, so that the network's input has a third of the pixels of a photograph's."""

SCENE = png(draw_scene(520_000, HEIGHT, WIDTH).image)
PNG = {"Content-Type": "image/png"}
CLASSES = coco_labels()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("checkpoints") / "mask_rcnn.pth"
    torch.save(
        {"meta": {"CLASSES": CLASSES}, "state_dict": official_state("mask_rcnn_overlock_xt")}, path
    )
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def service(weights: Path) -> Iterator[RunningService]:
    with RunningService(
        classify_model="demo",
        segment_model="off",
        detect_model="mask_rcnn_overlock_xt",
        detect_weights=str(weights),
        default_timeout_seconds=100,
    ) as running:
        yield running


def test_detections_have_a_class_a_score_a_box_and_a_mask(service: RunningService) -> None:
    answer = CLIENT.post(f"{service.url}/v1/detect", content=SCENE, headers=PNG, timeout=100)
    assert answer.status_code == 200, answer.text
    detections = answer.json()["detections"]
    assert 0 < len(detections) <= 100
    scores = [found["score"] for found in detections]
    assert scores == sorted(scores, reverse=True)
    for found in detections:
        assert found["label"] == CLASSES[found["class_id"]]
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= HEIGHT
        (pixels,) = coco_mask.decode([found["mask"]]).transpose(2, 0, 1)
        assert pixels.shape == (HEIGHT, WIDTH)
        rows, columns = pixels.nonzero()
        if len(rows):
            assert x1 - 1 <= columns.min() <= columns.max() <= x2
            assert y1 - 1 <= rows.min() <= rows.max() <= y2


@pytest.mark.slow
def test_an_image_in_tiles_has_objects_within_it_best_first(service: RunningService) -> None:
    url = f"{service.url}/v1/detect?tile=256&max_detections=40"
    before = service.metric("overlock_batch_size_sum", 'task="detect"')
    answer = CLIENT.post(url, content=SCENE, headers=PNG, timeout=100)
    assert answer.status_code == 200, answer.text
    assert service.metric("overlock_batch_size_sum", 'task="detect"') == before + 4
    detections = answer.json()["detections"]
    scores = [found["score"] for found in detections]
    assert scores == sorted(scores, reverse=True)
    assert any(found["box"][0] > 256 for found in detections)  # in the image's pixels
    for found in detections:
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= HEIGHT
        (pixels,) = coco_mask.decode([found["mask"]]).transpose(2, 0, 1)
        assert pixels.shape == (HEIGHT, WIDTH)
        rows, columns = pixels.nonzero()
        if len(rows):
            assert x1 - 1 <= columns.min() <= columns.max() <= x2
            assert y1 - 1 <= rows.min() <= rows.max() <= y2


def test_the_readmes_curl_command_detects(service: RunningService) -> None:
    answer = json.loads(run_curl("README.md", "/v1/detect", service.port))
    assert answer["model"] == "mask_rcnn_overlock_xt"
    assert all(found["score"] >= 0.3 for found in answer["detections"])


def test_the_drawn_detections_have_the_images_size(service: RunningService) -> None:
    answer = CLIENT.post(
        f"{service.url}/v1/detect?max_detections=3&timeout=100",
        content=SCENE,
        headers=PNG | {"Accept": "image/png"},
        timeout=100,
    )
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image, Image.open(io.BytesIO(SCENE)) as scene:
        assert image.size == (WIDTH, HEIGHT)
        assert (np.asarray(image) != np.asarray(scene)).any()


async def test_a_classification_overtakes_detections_that_wait(service: RunningService) -> None:
    async with httpx.AsyncClient(timeout=100, headers=PNG) as client:
        detections = [
            asyncio.create_task(client.post(f"{service.url}/v1/detect", content=SCENE))
            for _ in range(3)
        ]
        async with asyncio.timeout(60):
            while service.metric("overlock_queue_requests") < 2:
                await asyncio.sleep(0.05)
        classified = await client.post(f"{service.url}/v1/classify", content=SCENE)
        waiting = [detection for detection in detections if not detection.done()]
        assert classified.status_code == 200
        assert len(waiting) >= 2
        for detection in detections:
            assert (await detection).status_code == 200


def test_a_task_that_is_off_names_its_setting(service: RunningService) -> None:
    answer = CLIENT.post(f"{service.url}/v1/segment", content=SCENE, headers=PNG)
    assert answer.status_code == 404
    assert "OVERLOCK_SEGMENT_MODEL" in answer.json()["detail"]


def test_the_start_names_every_model(service: RunningService) -> None:
    assert "classify  demo" in service.log
    assert "detect    mask_rcnn_overlock_xt" in service.log
    models = CLIENT.get(f"{service.url}/v1/models").json()["models"]
    assert [model["task"] for model in models] == ["classify", "detect"]
    scaled = {"short_side": 800, "long_side": 1333, "multiple": 32}
    assert models[1]["input"].items() >= scaled.items()


def test_the_command_line_finds_the_same_here_and_there(
    service: RunningService, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "scene.png").write_bytes(SCENE)
    found = []
    for place, options in (
        ("here", ("--model", "mask_rcnn_overlock_xt", "--weights", str(weights))),
        ("there", ("--url", service.url)),
    ):
        words = ("predict", "detect", "scene.png", "--json", "--save", place, *options)
        done = overlock(*words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        del document["timing"]
        found.append((document, (tmp_path / place / "scene.png.overlay.png").read_bytes()))
    assert len(found[0][0]["detections"]) > 0
    assert found[0] == found[1]
