"""Files of mmsegmentation and mmdetection: official ones, and fine-tuned to other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError
from model.config import SEGMENTERS
from model.heads.upernet import UPerNet
from model.labels.tables import ade20k_labels, ade20k_palette, coco_labels
from model.zoo import create_model, load_model
from support.checkpoints import official_shapes
from support.filled import filled

pytestmark = pytest.mark.slow

NAMES = ("road", "roof", "tree")
COLORS = ((1, 2, 3), (40, 50, 60), (255, 0, 7))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def segmenter_state(num_classes: int) -> dict[str, Tensor]:
    config = SEGMENTERS["demo"]
    network = UPerNet(config.backbone, config.head_channels, num_classes)
    return dict(filled(network, torch.float32).state_dict())


def detector_state(name: str, num_classes: int) -> dict[str, Tensor]:
    """Zeros under the official keys, with other numbers of rows where classes are told apart."""
    rows = {"fc_cls": num_classes + 1, "conv_logits": num_classes}
    if not name.startswith("cascade"):
        rows["fc_reg"] = 4 * num_classes
    state = {}
    for key, shape in official_shapes(name).items():
        layer = key.split(".")[-2]
        state[key] = torch.zeros(rows[layer], *shape[1:]) if layer in rows else torch.zeros(shape)
    return state


def test_a_fine_tuned_segmenter_brings_its_classes_and_colours(path: Path) -> None:
    meta = {
        "CLASSES": NAMES,
        "PALETTE": np.array(COLORS, np.uint8),
        "hook_msgs": {"best_score": np.float64(0.5)},
        "time": "Mon",
    }
    extra = {
        "auxiliary_head.conv_seg.weight": torch.zeros(150, 2),
        "head.bottleneck.norm.num_batches_tracked": torch.tensor(7),
    }
    torch.save(
        {
            "meta": meta,
            "state_dict": segmenter_state(3) | extra,
            "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]},
        },
        path,
    )
    loaded = load_model("demo", task="segment", weights=path)
    assert (loaded.labels, loaded.palette) == (NAMES, COLORS)
    assert loaded.network(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("name", ["mask_rcnn_overlock_xt", "cascade_mask_rcnn_overlock_xt"])
def test_a_fine_tuned_detector_follows_its_number_of_classes(path: Path, name: str) -> None:
    torch.save({"meta": {"CLASSES": NAMES}, "state_dict": detector_state(name, 3)}, path)
    loaded = load_model(name, weights=path)
    assert loaded.network.num_classes == 3
    assert loaded.labels == NAMES
    assert loaded.palette is None


def test_a_segmenter_without_meta_has_ade20ks_classes(path: Path) -> None:
    torch.save(segmenter_state(150), path)
    loaded = load_model("demo", task="segment", weights=path)
    assert loaded.labels == ade20k_labels()
    assert loaded.palette == ade20k_palette()


def test_a_detector_with_random_weights_has_cocos_classes() -> None:
    loaded = load_model("mask_rcnn_overlock_xt", weights="random")
    assert loaded.labels == coco_labels()


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"CLASSES": NAMES[:2]}, "3 classes, but 2 class names"),
        ({"CLASSES": "road"}, "has an invalid class table: the labels are no list"),
    ],
)
def test_classes_that_do_not_fit_are_refused(path: Path, meta: dict[str, Any], reason: str) -> None:
    torch.save({"meta": meta, "state_dict": segmenter_state(3)}, path)
    with pytest.raises(CheckpointError, match=reason):
        create_model("demo", task="segment", weights=path)


def test_colours_of_other_classes_are_left_out(path: Path) -> None:
    meta = {"CLASSES": NAMES, "PALETTE": [*COLORS, (0, 0, 0)]}
    torch.save({"meta": meta, "state_dict": segmenter_state(3)}, path)
    loaded = load_model("demo", task="segment", weights=path)
    assert (loaded.labels, loaded.palette) == (NAMES, None)


@pytest.mark.parametrize(
    ("meta", "labels", "palette"),
    [
        ({}, ("background", "class 1"), None),
        ({"CLASSES": ("road",)}, ("background", "road"), None),
        ({"CLASSES": ("road",), "PALETTE": [(7, 8, 9)]}, None, ((0, 0, 0), (7, 8, 9))),
        ({"CLASSES": ("land", "road"), "PALETTE": [(1, 1, 1), (7, 8, 9)]}, ("land", "road"), None),
    ],
)
def test_a_segmenter_of_one_class_has_a_background_before_it(
    path: Path, meta: dict[str, Any], labels: tuple[str, ...] | None, palette: Any
) -> None:
    torch.save({"meta": meta, "state_dict": segmenter_state(1)}, path)
    loaded = load_model("demo", task="segment", weights=path)
    assert loaded.network.num_classes == 1
    assert loaded.labels == labels or labels is None
    assert loaded.palette == palette or palette is None


def test_a_segmenter_of_one_class_with_three_names_is_refused(path: Path) -> None:
    torch.save({"meta": {"CLASSES": NAMES}, "state_dict": segmenter_state(1)}, path)
    with pytest.raises(CheckpointError, match="has 2 classes, but 3 class names"):
        load_model("demo", task="segment", weights=path)


def test_a_classifiers_file_is_no_segmenters(path: Path) -> None:
    classifier = create_model("demo", weights="random", num_classes=3, fused=False)
    torch.save(classifier.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"missing: backbone\.dense_norms"):
        create_model("demo", task="segment", weights=path)


def test_a_segmenters_file_is_no_detectors(path: Path) -> None:
    torch.save(segmenter_state(3), path)
    with pytest.raises(CheckpointError, match=r"which a mask_rcnn has: its kind is upernet\."):
        create_model("mask_rcnn_overlock_xt", weights=path)


@pytest.mark.parametrize(
    ("name", "task", "known"),
    [
        ("overlock_t", "segment", "upernet_overlock_xt"),
        ("demo", "detect", "mask_rcnn_overlock_xt"),
        ("upernet_overlock_t", "classify", "overlock_xt"),
    ],
)
def test_a_name_of_another_task_is_refused_with_those_that_fit(
    name: str, task: str, known: str
) -> None:
    with pytest.raises(ValueError, match=f"no model '{name}' that can {task}; there are.*{known}"):
        create_model(name, task=task, weights="random")
