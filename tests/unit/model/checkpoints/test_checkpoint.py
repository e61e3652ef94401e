"""Checkpoints in every wrapping load; everything else is refused with its reason."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from model.checkpoints.checkpoint import CheckpointError, load_strictly, read_checkpoint
from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from model.zoo import create_model, load_model
from support.checkpoints import official_shapes
from support.filled import filled, random_map

NUM_CLASSES = 7
LABELS = tuple(f"kind {number}" for number in range(NUM_CLASSES))


@pytest.fixture(scope="module")
def network() -> ImageClassifier:
    return filled(ImageClassifier(CLASSIFIERS["demo"].backbone, NUM_CLASSES), torch.float32)


@pytest.fixture
def state(network: ImageClassifier) -> dict[str, Tensor]:
    return dict(network.state_dict())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def official_numbers() -> dict[str, Tensor]:
    """Some official keys, each with a number of its own: enough to follow it through a reading."""
    parts = ("blocks1.0.", "head.", "aux_head.")
    return {
        key: torch.tensor([float(number)])
        for number, key in enumerate(official_shapes("overlock_xt"))
        if key.startswith(parts)
    }


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
    torch.save(WRAPPERS[wrapping](official_numbers()), path)
    assert_close(read_checkpoint(path).state, want, rtol=0, atol=0)


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
def test_training_only_entries_are_ignored(path: Path, prefix: str) -> None:
    ignored = ("aux_head.0.weight", "patch_embed1.1.num_batches_tracked")
    kept = {f"{prefix}head.4.bias": torch.zeros(3)}
    torch.save(kept | {f"{prefix}{name}": torch.zeros(1) for name in ignored}, path)
    assert list(read_checkpoint(path).state) == ["head.classify.bias"]


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


def test_other_number_of_classes_than_asked_for_is_refused(
    path: Path, state: dict[str, Tensor]
) -> None:
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="has 7 classes, not 8"):
        create_model("demo", weights=path, num_classes=8)


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


def test_missing_entries_are_listed(path: Path, state: dict[str, Tensor]) -> None:
    del state["backbone.stem.layers.0.conv.weight"], state["head.classify.bias"]
    torch.save(state, path)
    want = "2 missing: backbone.stem.layers.0.conv.weight, head.classify.bias"
    with pytest.raises(CheckpointError, match=want):
        create_model("demo", weights=path)


def test_unexpected_entries_are_listed(path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state | {"neck.gate.bias": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: neck\.gate\.bias"):
        create_model("demo", weights=path)


def test_wrongly_shaped_entries_are_listed_with_both_shapes(
    path: Path, state: dict[str, Tensor]
) -> None:
    torch.save(state | {"backbone.context_projection.bias": torch.zeros(2)}, path)
    want = r"of the wrong shape: backbone\.context_projection\.bias is \(2,\), not \(24,\)"
    with pytest.raises(CheckpointError, match=want):
        create_model("demo", weights=path)


def test_weights_of_another_variant_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(create_model("overlock_xt", weights="random", fused=False).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"network\. It looks like overlock_xt, not nano\. "):
        create_model("demo", weights=path)


def test_every_kind_of_problem_is_told_at_once(path: Path, state: dict[str, Tensor]) -> None:
    del state["head.classify.bias"]
    state["surplus"] = torch.zeros(1)
    state["backbone.context_projection.bias"] = torch.zeros(24, dtype=torch.int8)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"missing.*unexpected.*not plain floating-point"):
        create_model("demo", weights=path)


def test_other_variants_file_is_refused_in_a_readable_message(path: Path) -> None:
    torch.save(official_numbers(), path)
    with pytest.raises(CheckpointError, match=r"and [0-9]+ more") as refusal:
        create_model("overlock_t", weights=path)
    assert len(str(refusal.value)) < 10_000


@pytest.mark.parametrize(
    "make",
    [lambda weight: weight.to(torch.int8), lambda weight: weight > 0, Tensor.to_sparse],
    ids=["integers", "booleans", "sparse"],
)
def test_tensor_of_another_kind_is_refused(path: Path, state: dict[str, Tensor], make: Any) -> None:
    name = "backbone.context_projection.weight"
    torch.save(state | {name: make(state[name])}, path)
    with pytest.raises(CheckpointError, match=f"not plain floating-point tensors: {name}"):
        create_model("demo", weights=path)


def test_refused_weights_leave_the_network_alone(
    path: Path, network: ImageClassifier, state: dict[str, Tensor]
) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save(other | {"surplus": torch.zeros(1)}, path)
    before = copy.deepcopy(state)
    with pytest.raises(CheckpointError):
        load_strictly(network, read_checkpoint(path))
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("first", "second"),
    [("head.4.bias", "head.classify.bias"), ("head.4.bias", "module.head.4.bias")],
)
def test_parameter_under_two_names_is_refused(path: Path, first: str, second: str) -> None:
    torch.save({first: torch.zeros(2), second: torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=f"comes twice, the second time as {second}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "weight", [None, torch.tensor(1.0), torch.zeros(0, 4, 1, 1)], ids=["none", "scalar", "empty"]
)
def test_file_without_a_classifier_is_refused(path: Path, weight: Tensor | None) -> None:
    entries = {"head.4.bias": torch.zeros(2)}
    torch.save(entries if weight is None else entries | {"head.4.weight": weight}, path)
    with pytest.raises(CheckpointError, match="another kind of network"):
        create_model("demo", weights=path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"not weights\n",
        b"<!DOCTYPE html><html>Not Found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        b"\xff\xd8\xff\xe0" + bytes(range(256)),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=["empty", "text", "web page", "lfs pointer", "picture", "zip"],
)
def test_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, contents: bytes, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=str(path)):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_file_truncated_anywhere_is_refused(tmp_path: Path, form: str) -> None:
    entries = {"head.4.weight": torch.randn(5, 3), "head.4.bias": torch.zeros(5)}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(entries, path)
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=form == "zip")
    contents = path.read_bytes()
    for length in range(0, len(contents), max(1, len(contents) // 200)):
        path.write_bytes(contents[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


class Shell:
    """Pickles as a call of a shell command, as malicious weights do."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_file_that_runs_code_is_refused_unrun(tmp_path: Path, path: Path, form: str) -> None:
    proof = tmp_path / "it ran"
    contents = {"state_dict": {"head.4.bias": torch.zeros(2)}, "hook": Shell(f"touch '{proof}'")}
    if form == "pickle":
        path.write_bytes(pickle.dumps(contents["hook"], protocol=2))
    else:
        torch.save(contents, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="would run code of its own"):
        read_checkpoint(path)
    assert not proof.exists()


def test_pickled_network_is_refused(path: Path, network: ImageClassifier) -> None:
    torch.save(network, path)
    with pytest.raises(CheckpointError, match="would run code of its own"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "contents",
    [[torch.zeros(1)], torch.zeros(1), None, {}, {"state_dict": {}}, {"model": {"model": {}}}],
    ids=["list", "tensor", "nothing", "empty", "empty inside", "empty twice inside"],
)
def test_contents_that_are_no_mapping_to_tensors_are_refused(path: Path, contents: Any) -> None:
    torch.save(contents, path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "stray",
    [{"epoch": 3}, {"model": [1, 2]}, {0: torch.zeros(1)}, {("a", 1): torch.zeros(1)}],
    ids=["number", "list", "number as name", "tuple as name"],
)
def test_entries_that_are_no_named_tensors_are_listed(path: Path, stray: dict[Any, Any]) -> None:
    torch.save({"head.4.bias": torch.zeros(2)} | stray, path)
    with pytest.raises(CheckpointError, match=r"no named tensors: [(]?'?(epoch|model|0|a)"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"nowhere{suffix}"
    with pytest.raises(CheckpointError, match=f"There is no weights file {path}"):
        create_model("demo", weights=path)


def test_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no weights file"):
        read_checkpoint(tmp_path)
