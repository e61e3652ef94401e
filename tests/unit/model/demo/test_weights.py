"""The bundled weights: small, described by their metrics, and right about fresh scenes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors
import torch
from PIL import Image

from model.checkpoints.demo_weights import DEMO_WEIGHTS
from model.config import SEGMENTERS, Task
from model.demo.classification import points_at_shape
from model.demo.loop import network_input
from model.demo.stream import HELD_OUT_SEEDS_END, draw_batch
from model.evaluation.metrics import SegmentationCounts
from model.heads.classifier import ImageClassifier
from model.images.preprocess import segmentation_input
from model.inference.predictor import Predictor
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES, draw_scene
from model.zoo import create_model
from service.commands.train_demo.__main__ import (
    DEMOS,
    HELD_OUT_SCENES,
    WEIGHTS_FOLDER,
    metrics_path,
)

FIRST_SEED = 500_000  # neither trained on nor part of the metrics


def metrics_of(task: Task) -> dict[str, Any]:
    path = metrics_path(WEIGHTS_FOLDER / DEMO_WEIGHTS[task])
    facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return facts


@pytest.mark.parametrize("task", DEMO_WEIGHTS)
def test_the_file_is_small_enough_to_be_embedded(task: Task) -> None:
    assert (WEIGHTS_FOLDER / DEMO_WEIGHTS[task]).stat().st_size < 3_000_000


@pytest.mark.parametrize("task", DEMO_WEIGHTS)
def test_the_metadata_say_what_the_weights_are(task: Task) -> None:
    with safetensors.safe_open(WEIGHTS_FOLDER / DEMO_WEIGHTS[task], framework="pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == "demo"
    assert json.loads(metadata["labels"]) == list(DEMOS[task].labels)
    assert "drawn scenes" in metadata["note"]


def test_the_classifiers_metrics_state_at_least_97_percent() -> None:
    metrics = metrics_of(Task.CLASSIFY)
    assert metrics["top1"] >= 0.97
    assert list(metrics["top1_by_class"]) == list(CLASS_NAMES)


def test_the_classifiers_metrics_state_where_its_maps_point() -> None:
    points = metrics_of(Task.CLASSIFY)["points_at_shape"]
    assert list(points) == ["focus", "overview"]
    assert points["focus"] >= 0.95


def test_the_segmenters_metrics_state_at_least_85_percent() -> None:
    metrics = metrics_of(Task.SEGMENT)
    assert metrics["miou"] >= 0.85
    assert list(metrics["iou_by_class"]) == list(SEGMENT_NAMES)


@pytest.mark.parametrize("task", DEMO_WEIGHTS)
def test_the_metrics_are_of_scenes_that_were_not_trained_on(task: Task) -> None:
    held_out = metrics_of(task)["held_out"]
    assert held_out["scenes"] == HELD_OUT_SCENES
    assert held_out["first_seed"] + held_out["scenes"] - 1 < FIRST_SEED < HELD_OUT_SEEDS_END


@pytest.mark.slow
def test_the_demo_classifies_95_of_100_fresh_scenes() -> None:
    network = create_model("demo", weights="demo")
    right = 0
    for first_seed in range(FIRST_SEED, FIRST_SEED + 100, 25):
        batch = draw_batch(first_seed, 25, 224)
        with torch.inference_mode():
            classes = network(network_input(batch.images)).argmax(dim=1).numpy()
        right += int((classes == batch.labels).sum())
    assert right >= 95


@pytest.mark.slow
@torch.inference_mode()
def test_of_500_fresh_scenes_the_map_is_highest_on_the_shape_in_95_percent() -> None:
    network = create_model("demo", weights="demo")
    assert isinstance(network, ImageClassifier)
    found = []
    for first_seed in range(FIRST_SEED, FIRST_SEED + 500, 50):
        batch = draw_batch(first_seed, 50, 224)
        explained = network.explain(network_input(batch.images))
        found += points_at_shape(network, explained, batch)["focus"]
    assert len(found) == 500
    assert sum(found) >= 475


@pytest.mark.slow
def test_the_demo_segments_fresh_scenes_of_another_shape() -> None:
    network = create_model("demo", task="segment", weights="demo")
    predictor = Predictor(network, torch.device("cpu"), torch.float32)
    counts = SegmentationCounts(len(SEGMENT_NAMES))
    for seed in range(FIRST_SEED, FIRST_SEED + 60):
        scene = draw_scene(seed, 240, 320)
        image = Image.fromarray(scene.image)
        pixels = segmentation_input(image, SEGMENTERS["demo"].geometry)
        (found,) = predictor.segment([pixels], (1, *pixels.shape[:2]), [(240, 320)])
        assert found is not None
        counts.add(found, scene.label_map)
    miou = counts.metrics()["miou"]
    assert miou is not None
    assert miou >= 85  # sixty scenes, of a shape that it was not trained on
