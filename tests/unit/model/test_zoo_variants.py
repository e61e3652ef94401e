"""Networks on backbones of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.official_names import official_state
from model.config import (
    SEGMENTERS,
    BackboneConfig,
    ClassifierConfig,
    NetworkKind,
    SegmenterConfig,
    Task,
)
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.zoo import create_model, load_model
from support.filled import filled, random_map
from support.reference_shapes import official_state_of

pytestmark = pytest.mark.slow

OWN = BackboneConfig(
    depths=(1, 1, 1, 1),
    focus_depths=(1, 1),
    channels=(8, 12, 24, 40),
    focus_heads=(3, 1),
    kernel_sizes=(9, 5, 7, 11),
    small_kernel=3,
    mlp_ratio=2.5,
    layer_scale=(False, False, False, True),
    head_channels=16,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "birds.pth"
    torch.save(official_state_of(OWN, 4), path)
    return path


@pytest.mark.parametrize("model", [OWN, {}, {"small_kernel": 3, "channels": [8, 12, 24, 40]}])
def test_a_file_is_loaded_whole_or_as_it_is(path: Path, model: Any) -> None:
    loaded = load_model(model, weights=path)
    assert (loaded.name, loaded.task) == ("classifier", Task.CLASSIFY)
    assert isinstance(loaded.config, ClassifierConfig)
    assert loaded.config.backbone == OWN
    images = random_map(2, 3, 64, 48, dtype=torch.float32)
    assert_close(loaded.network(images), create_model(OWN, weights=path)(images))


def test_another_backbone_than_the_files_is_refused_by_its_field(path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"backbone's small_kernel is given as 5, but .* is 3"
    ):
        create_model(replace(OWN, small_kernel=5), weights=path)


@pytest.mark.parametrize(
    ("entry", "shape"),
    [("blocks1.0.proj.0.weight", (1 << 20,)), ("blocks2.0.proj.4.weight", (1 << 22, 12, 1, 1))],
)
def test_a_shape_that_one_entry_states_takes_no_memory(
    tmp_path: Path, entry: str, shape: tuple[int, ...]
) -> None:
    state = official_state_of(OWN, 4) | {entry: torch.zeros(1).expand(shape).contiguous()}
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="of the wrong shape"):
        create_model({}, weights=tmp_path / "wide.pth")


@pytest.mark.parametrize(
    ("saved", "asked", "message"),
    [
        (
            "classifier",
            "upernet",
            r"no decode_head\.bottleneck\.conv\.weight, .*kind is classifier",
        ),
        ("classifier", "mask_rcnn", r"no roi_head\.mask_head\.conv_logits\.weight, .*classifier"),
        ("classifier", "cascade_mask_rcnn", r"no roi_head\.mask_head\.0\.conv_logits\.weight, "),
        ("upernet", "classifier", r"Its kind is upernet, not classifier\."),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_kind(
    tmp_path: Path, saved: NetworkKind, asked: NetworkKind, message: str
) -> None:
    network = create_model(OWN, weights="random", kind=saved, num_classes=2, fused=False)
    torch.save(official_state(network), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        create_model({}, weights=tmp_path / "other.pth", kind=asked)


def test_random_weights_need_the_whole_backbone() -> None:
    assert create_model(OWN, weights="random", num_classes=3).num_classes == 3
    with pytest.raises(ValueError, match="A backbone for random weights is a whole BackboneConfig"):
        create_model({"depths": (1, 1, 1, 1)}, weights="random")


@pytest.mark.parametrize("weights", ["demo", "pretrained"])
def test_only_named_networks_have_published_weights(weights: str) -> None:
    with pytest.raises(CheckpointError, match=f"no {weights} weights of a backbone of one's own"):
        create_model(OWN, weights=weights)


@pytest.mark.parametrize(
    "how", [{"task": "segment"}, {"kind": "upernet"}, {"task": "segment", "kind": "upernet"}]
)
def test_a_segmenters_head_has_the_files_width(tmp_path: Path, how: Any) -> None:
    width = SEGMENTERS["demo"].head_channels
    network = filled(UPerNet(OWN, width, 3), torch.float32)
    path = tmp_path / "segmenter.pth"
    torch.save(official_state(network), path)
    loaded = load_model({"depths": (1, 1, 1, 1)}, weights=path, **how)
    assert isinstance(loaded.config, SegmenterConfig)
    assert (loaded.name, loaded.config.head_channels) == ("upernet", width)
    images = random_map(1, 3, 64, 96, dtype=torch.float32)
    want = network(images)
    assert_close(loaded.network(images), want, rtol=0, atol=1e-5 * want.abs().max().item())


@pytest.mark.parametrize("cascade", [False, True])
def test_a_detector_can_be_built_on_a_backbone(cascade: bool) -> None:
    kind = "cascade_mask_rcnn" if cascade else "mask_rcnn"
    loaded = load_model(OWN, weights="random", kind=kind, num_classes=2)  # type: ignore[arg-type]
    assert isinstance(loaded.network, MaskRCNN)
    assert (loaded.name, loaded.network.backbone.config) == (kind, OWN)
    (found,) = loaded.network(torch.zeros(1, 3, 64, 64), [(64, 64)])
    assert found.masks.shape[1:] == (28, 28)


def test_a_named_model_says_how_a_shape_of_ones_own_is_given(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none of the named shapes.*\[NAME.backbone\]"):
        create_model("overlock_xt", weights=path)
