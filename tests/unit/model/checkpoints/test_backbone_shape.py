"""A file's shapes say what its backbone is, and are compared with what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoints.backbone_shape import _ratio, backbone_of
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from model.checkpoints.official_names import official_state
from model.config import BACKBONES, SEGMENTERS, BackboneConfig
from model.heads.classifier import ImageClassifier
from model.heads.upernet import UPerNet
from model.lowering.folding import fold
from support.checkpoints import official_shapes
from support.reference_shapes import official_shapes_of

pytestmark = pytest.mark.slow

OWN = BackboneConfig(
    depths=(1, 2, 1, 3),
    focus_depths=(3, 1),
    channels=(12, 20, 24, 48),
    focus_heads=(3, 2),
    kernel_sizes=(19, 5, 9, 11),
    small_kernel=7,
    mlp_ratio=(2.5, 1, 3, 0.5),
    focus_mlp_ratio=(2.5, 1),
    layer_scale=(True, False, False, True),
    context_grid=5,
    head_channels=40,
    in_channels=2,
)


def checkpoint_of(shapes: dict[str, tuple[int, ...]], folder: Path) -> Checkpoint:
    path = folder / "weights.pth"
    # One number, as large as it is said to be: a file of a hundred kilobytes.
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}, path)
    return read_checkpoint(path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return checkpoint_of(official_shapes_of(OWN, 5), tmp_path)


def test_every_field_is_read_from_a_file(checkpoint: Checkpoint) -> None:
    assert backbone_of(checkpoint) == OWN


@pytest.mark.parametrize("merged", [False, True])
def test_a_file_of_ones_own_names_says_as_much(tmp_path: Path, merged: bool) -> None:
    with torch.device("meta"):
        state = ImageClassifier(OWN, 5, merged=merged).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert backbone_of(checkpoint_of(shapes, tmp_path)) == OWN


@pytest.mark.parametrize("variant", ["xt", "t"])
@pytest.mark.parametrize("form", ["", "_reparam"])
def test_the_published_files_are_of_the_tables_backbones(
    tmp_path: Path, variant: str, form: str
) -> None:
    name = f"overlock_{variant}"
    shapes = official_shapes(f"{name}{form}")
    assert backbone_of(checkpoint_of(shapes, tmp_path)) == BACKBONES[name]


@pytest.mark.parametrize("kind", ["upernet", "mask_rcnn"])
def test_a_dense_file_says_all_but_the_projections_width(tmp_path: Path, kind: str) -> None:
    checkpoint = checkpoint_of(official_shapes(f"{kind}_overlock_xt"), tmp_path)
    assert backbone_of(checkpoint) == BACKBONES["overlock_xt"]
    given = {"head_channels": 256}
    assert backbone_of(checkpoint, given) == replace(BACKBONES["overlock_xt"], head_channels=256)


def test_a_dense_file_of_ones_own_is_read_too(tmp_path: Path) -> None:
    config = SEGMENTERS["demo"]
    with torch.device("meta"):
        state = official_state(UPerNet(config.backbone, config.head_channels, 3))
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    got = backbone_of(checkpoint_of(shapes, tmp_path))
    assert got == replace(config.backbone, head_channels=1024)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"channels": [12, 20, 24, 48], "layer_scale": [True, False, False, True]},
        {"focus_heads": (3, 2)},
        {"mlp_ratio": [2.54, 1.04, 3.04, 0.51], "focus_mlp_ratio": (2.5, 1.0)},
        vars(OWN),
    ],
    ids=["nothing", "lists", "a tuple", "ratios of the same widths", "everything"],
)
def test_what_is_given_may_be_the_files(checkpoint: Checkpoint, given: dict[str, Any]) -> None:
    got = backbone_of(checkpoint, given)
    assert got == replace(OWN, mlp_ratio=got.mlp_ratio)
    assert [*map(got.hidden_channels, range(4))] == [30, 20, 72, 24]


@pytest.mark.parametrize(
    ("name", "value", "of_file"),
    [
        ("depths", [1, 2, 2, 3], "(1, 2, 1, 3)"),
        ("focus_depths", [2, 1], "(3, 1)"),
        ("channels", [12, 20, 25, 48], "(12, 20, 24, 48)"),
        ("focus_heads", (6, 2), "(3, 2)"),
        ("kernel_sizes", (17, 15, 13, 7), "(19, 5, 9, 11)"),
        ("small_kernel", 5, "7"),
        ("mlp_ratio", 4, "(2.5, 1, 3, 0.5)"),
        ("focus_mlp_ratio", [2.5, 2], "(2.5, 1)"),
        ("layer_scale", [True, True, False, True], "(True, False, False, True)"),
        ("context_grid", 7, "5"),
        ("head_channels", 1024, "40"),
        ("in_channels", 3, "2"),
    ],
)
def test_what_is_not_the_files_is_refused_by_its_name(
    checkpoint: Checkpoint, name: str, value: object, of_file: str
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        backbone_of(checkpoint, {name: value})
    assert str(refusal.value) == (
        f"The backbone's {name} is given as {value!r}, but that of {checkpoint.path} is {of_file}."
    )


def test_an_unknown_field_is_refused_with_those_there_are(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"has no 'width'; it has depths, .* in_channels"):
        backbone_of(checkpoint, {"width": 3})


def test_a_value_that_cannot_be_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="mlp_ratio is 'large', not one ratio or 4"):
        backbone_of(checkpoint, {"mlp_ratio": "large"})


@pytest.mark.parametrize(
    "gone",
    ["patch_embed1.0.weight", "sub_blocks4.0.rpb2", "blocks2.0.proj.1.lk_origin.weight"],
)
def test_a_missing_entry_is_refused_by_its_name_in_the_file(tmp_path: Path, gone: str) -> None:
    shapes = official_shapes_of(OWN, 5)
    del shapes[gone]
    with pytest.raises(CheckpointError, match=f"holds no {gone} from which the shape"):
        backbone_of(checkpoint_of(shapes, tmp_path))


def test_a_folded_networks_state_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        state = fold(ImageClassifier(OWN, 5).eval()).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    with pytest.raises(CheckpointError, match="state of a folded network"):
        backbone_of(checkpoint_of(shapes, tmp_path))


def test_a_backbone_that_the_authors_do_not_build_is_refused(tmp_path: Path) -> None:
    shapes = official_shapes_of(OWN, 5)
    shapes["blocks1.0.proj.1.lk_origin.weight"] = (12, 1, 21, 21)
    with pytest.raises(CheckpointError, match=r"kernel_sizes is \(21, 5, 9, 11\), not odd"):
        backbone_of(checkpoint_of(shapes, tmp_path))


def test_every_hidden_width_comes_from_its_ratio() -> None:
    widths = ((hidden, channels) for channels in range(4, 130) for hidden in range(1, 4 * channels))
    assert all(int(channels * _ratio(hidden, channels)) == hidden for hidden, channels in widths)
