"""Checkpoints load from every wrapping, under the authors' names and ours."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from model.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.zoo import create_model, load_model
from support.checkpoints import official_numbers
from support.filled import random_map

NUM_CLASSES = 7


LABELS = tuple(f"kind {number}" for number in range(NUM_CLASSES))


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


WRAPPERS = {
    "flat": lambda state: state,
    "ordered": OrderedDict,
    "state_dict": lambda state: {"state_dict": state, "meta": {"epoch": 3}},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 300},
    "state_dict_ema": lambda state: {"state_dict_ema": state, "version": 2},
    "model_ema": lambda state: {"model_ema": state, "model": {}},
    "module.": prefixed,
    "module. inside": lambda state: {"state_dict": prefixed(state)},
    "nested": lambda state: {"model": {"state_dict": state}},
    "arguments": lambda state: {
        "arch": "overlock_xt",
        "state_dict": state,
        "args": argparse.Namespace(lr=1e-3, mean=(0.5, 0.5), resume=None),
    },
}


@pytest.mark.parametrize("wrapping", WRAPPERS)
def test_every_wrapping_holds_the_same_weights(path: Path, wrapping: str) -> None:
    torch.save(official_numbers(), path)
    want = read_checkpoint(path).state
    other = path.with_name("wrapped.pth")
    torch.save(WRAPPERS[wrapping](official_numbers()), other)
    assert_close(read_checkpoint(other).state, want, rtol=0, atol=0)


@pytest.mark.parametrize("other", ["state_dict", "model"])
def test_averaged_weights_win(path: Path, other: str) -> None:
    averaged = {"head.4.bias": torch.ones(3)}
    torch.save({other: {"head.4.bias": torch.zeros(3)}, "state_dict_ema": averaged}, path)
    assert_close(read_checkpoint(path).state, {"head.classify.bias": torch.ones(3)})


def test_unmerged_official_file_is_known_by_its_branches(path: Path) -> None:
    torch.save(official_numbers(), path)
    checkpoint = read_checkpoint(path)
    assert not checkpoint.merged
    assert "backbone.stage1.0.large_kernel.conv.large.conv.weight" in checkpoint.state


def test_merged_official_file_is_known_by_its_lack_of_branches(path: Path) -> None:
    torch.save({"blocks1.0.proj.1.lk_origin.weight": torch.zeros(1)}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.merged
    assert "backbone.stage1.0.large_kernel.conv.weight" in checkpoint.state


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_the_auxiliary_head_and_counters_are_kept(path: Path, prefix: str) -> None:
    names = ("head.4.bias", "aux_head.0.weight", "patch_embed1.1.num_batches_tracked")
    torch.save({f"{prefix}{name}": torch.zeros(1) for name in names}, path)
    assert list(read_checkpoint(path).state) == [
        "head.classify.bias",
        "overview_head.norm.weight",
        "backbone.stem.layers.0.norm.num_batches_tracked",
    ]


@pytest.mark.parametrize("ignored", ["auxiliary_head.conv_seg.bias", "backbone.aux_head.2.bias"])
def test_a_dense_files_training_heads_are_ignored(path: Path, ignored: str) -> None:
    names = ["backbone.patch_embed1.0.weight", "decode_head.conv_seg.bias", ignored]
    torch.save({name: torch.zeros(1) for name in names}, path)
    assert list(read_checkpoint(path).state) == [
        "backbone.stem.layers.0.conv.weight",
        "head.classify.bias",
    ]


def test_a_file_without_the_auxiliary_head_makes_a_network_without(
    path: Path, state: dict[str, Tensor]
) -> None:
    torch.save(state, path)
    network = create_model("demo", weights=path)
    assert isinstance(network, ImageClassifier)
    assert network.overview_head is None


def test_official_names_are_read_from_safetensors_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"head.4.bias": torch.zeros(3)}, path)
    assert list(read_checkpoint(path).state) == ["head.classify.bias"]


@pytest.mark.parametrize("merged", [False, True])
def test_own_names_pass_through_unchanged(merged: bool, path: Path) -> None:
    with torch.device("meta"):
        network = ImageClassifier(CLASSIFIERS["demo"].backbone, NUM_CLASSES, merged=merged)
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    torch.save({name: torch.zeros(1) for name in names}, path)
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.state) == names
    assert checkpoint.merged is merged


def test_number_of_classes_follows_the_checkpoint(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, path)
    loaded = load_model("demo", weights=path)
    assert loaded.network(torch.zeros(1, 3, 32, 32)).shape == (1, NUM_CLASSES)
    assert loaded.labels == tuple(f"class {number}" for number in range(NUM_CLASSES))


def test_a_folder_with_one_checkpoint_is_loaded(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, path)
    (path.parent / "config.json").write_text("{}")
    assert read_checkpoint(path.parent).path == path


def test_other_number_of_classes_than_asked_for_is_refused(
    path: Path, state: dict[str, Tensor]
) -> None:
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"has 7 classes, not 8\. A new head.*fused=False"):
        create_model("demo", weights=path, num_classes=8)


def test_a_network_to_be_trained_gets_a_new_head(
    path: Path, state: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": state, "meta": {"CLASSES": LABELS}}, path)
    loaded = load_model("demo", weights=path, num_classes=1000, fused=False)
    assert loaded.labels[:2] == ("class 0", "class 1")
    assert "the head for 1000 is new" in caplog.text
    new = loaded.network.state_dict()
    assert new["head.classify.weight"].shape[0] == loaded.network.num_classes == 1000
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("head.classify")}
    assert_close({name: new[name] for name in kept}, kept, rtol=0, atol=0)


def test_own_safetensors_round_trip(tmp_path: Path, network: ImageClassifier) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path, metadata={"labels": json.dumps(LABELS)})
    loaded = load_model("demo", weights=path, fused=False)
    images = random_map(2, 3, 64, 64, dtype=torch.float32)
    assert_close(loaded.network(images), network(images), rtol=0, atol=0)
    assert loaded.labels == LABELS
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_half_precision_file_becomes_a_float32_network(
    path: Path, state: dict[str, Tensor]
) -> None:
    torch.save({name: tensor.bfloat16() for name, tensor in state.items()}, path)
    network = create_model("demo", weights=path)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("labels", "reason"),
    [("[1", "no JSON"), ("5", "no list of class names"), ("[1, 2]", "no list of class names")],
)
def test_damaged_labels_are_refused(tmp_path: Path, labels: str, reason: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"head.4.bias": torch.zeros(2)}, path, metadata={"labels": labels})
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(path)


def test_labels_for_other_classes_are_refused(tmp_path: Path, network: ImageClassifier) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path, metadata={"labels": json.dumps(LABELS[:3])})
    with pytest.raises(CheckpointError, match="has 7 classes, but 3 class names"):
        load_model("demo", weights=path)
