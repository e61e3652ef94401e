"""The tables say what the paper says."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from model.architectures import Network
from model.config import (
    BACKBONES,
    CLASSIFIERS,
    DEFAULT_NUM_CLASSES,
    DETECTORS,
    GMACS,
    PARAMETERS,
    SEGMENTERS,
    Task,
)
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("overlock_xt", 16_453_712),
        ("overlock_t", 33_467_040),
        ("overlock_s", 56_156_452),
        ("overlock_b", 94_942_528),
    ],
)
def test_merged_network_has_the_papers_parameters(name: str, parameters: int) -> None:
    # As the paper counts: branches merged, norms still there, no auxiliary head.
    with torch.device("meta"):
        network = ImageClassifier(CLASSIFIERS[name].backbone, 1000, merged=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("overlock_xt", 242),
        ("overlock_t", 235),
        ("overlock_s", 235),
        ("overlock_b", 229),
        ("demo", 224),
    ],
)
def test_resize_side_is_timms(name: str, side: int) -> None:
    assert CLASSIFIERS[name].geometry.resize_short_side == side


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_crop_lies_inside_the_resized_image(name: str) -> None:
    geometry = CLASSIFIERS[name].geometry
    assert geometry.resize_short_side >= geometry.crop_size


@pytest.mark.parametrize("name", BACKBONES)
def test_widths_split_over_the_heads(name: str) -> None:
    backbone = BACKBONES[name]
    for channels, heads in zip(backbone.channels[2:], backbone.focus_heads, strict=True):
        assert channels % (4 * heads) == 0  # half of the channels over twice the heads


def test_http_workers_import_no_torch() -> None:
    modules = "model.config, model.images.preprocess, model.labels.tables"
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DEMO_CLASSES = {Task.CLASSIFY: len(CLASS_NAMES), Task.SEGMENT: len(SEGMENT_NAMES)}


def build(task: Task, name: str) -> Network:
    classes = DEMO_CLASSES[task] if name == "demo" else DEFAULT_NUM_CLASSES[task]
    match task:
        case Task.CLASSIFY:
            return ImageClassifier(CLASSIFIERS[name].backbone, classes, merged=True)
        case Task.SEGMENT:
            segmenter = SEGMENTERS[name]
            return UPerNet(segmenter.backbone, segmenter.head_channels, classes, merged=True)
        case _:
            detector = DETECTORS[name]
            return MaskRCNN(detector.backbone, classes, cascade=detector.cascade, merged=True)


@pytest.mark.parametrize(
    ("task", "name"), [(task, name) for task, names in PARAMETERS.items() for name in names]
)
def test_a_network_has_the_parameters_that_the_table_says(task: Task, name: str) -> None:
    with torch.device("meta"):
        network = build(task, name)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[task][name]


def test_every_network_is_in_the_table() -> None:
    assert PARAMETERS[Task.CLASSIFY].keys() == CLASSIFIERS.keys()
    assert PARAMETERS[Task.SEGMENT].keys() == SEGMENTERS.keys()
    assert PARAMETERS[Task.DETECT].keys() == DETECTORS.keys()
    assert GMACS.keys() == CLASSIFIERS.keys() - {"demo"}
