from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors
import torch

from model.demo.loop import network_input
from model.demo.scenes import CLASS_NAMES
from model.demo.stream import HELD_OUT_SEEDS_END, draw_batch
from model.demo.train import HELD_OUT_SCENES, METRICS_NAME, WEIGHTS_FOLDER, WEIGHTS_NAME
from model.zoo import create_model

WEIGHTS = WEIGHTS_FOLDER / WEIGHTS_NAME
FIRST_SEED = 500_000  # neither trained on nor part of the metrics


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((WEIGHTS_FOLDER / METRICS_NAME).read_text("utf-8"))
    return facts


def test_the_file_is_small_enough_to_be_embedded() -> None:
    assert WEIGHTS.stat().st_size < 3_000_000


def test_the_metadata_say_what_the_weights_are() -> None:
    with safetensors.safe_open(WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == "demo"
    assert json.loads(metadata["labels"]) == list(CLASS_NAMES)
    assert "drawn scenes" in metadata["note"]


def test_the_metrics_state_at_least_97_percent(metrics: dict[str, Any]) -> None:
    assert metrics["top1"] >= 0.97
    assert list(metrics["top1_by_class"]) == list(CLASS_NAMES)
    assert metrics["held_out"]["scenes"] == HELD_OUT_SCENES


def test_the_metrics_are_of_scenes_that_were_not_trained_on(metrics: dict[str, Any]) -> None:
    last_seed = metrics["held_out"]["first_seed"] + metrics["held_out"]["scenes"] - 1
    assert last_seed < FIRST_SEED < HELD_OUT_SEEDS_END


def test_the_demo_classifies_95_of_100_fresh_scenes() -> None:
    network = create_model("demo", weights="demo")
    right = 0
    for first_seed in range(FIRST_SEED, FIRST_SEED + 100, 25):
        batch = draw_batch(first_seed, 25, 224)
        with torch.inference_mode():
            classes = network(network_input(batch.images)).argmax(dim=1).numpy()
        right += int((classes == batch.labels).sum())
    assert right >= 95
