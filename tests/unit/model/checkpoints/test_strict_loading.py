"""A checkpoint has to match its network in every entry."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from model.checkpoints.checkpoint import CheckpointError, load_strictly, read_checkpoint
from model.checkpoints.official_names import official_state
from model.heads.classifier import ImageClassifier
from model.zoo import create_model
from support.checkpoints import official_numbers


def test_missing_entries_are_listed(path: Path, state: dict[str, Tensor]) -> None:
    del state["backbone.stem.layers.0.conv.weight"], state["head.classify.bias"]
    torch.save(state, path)
    want = "2 missing: backbone.stem.layers.0.conv.weight, head.classify.bias"
    with pytest.raises(CheckpointError, match=want):
        create_model("demo", weights=path)


def test_missing_entries_are_listed_by_the_names_of_the_file(
    path: Path, network: ImageClassifier
) -> None:
    official = official_state(network)
    gone = ["blocks1.0.proj.1.dil_conv_k9_2.weight", "head.4.bias", "sub_blocks3.0.rpb2"]
    torch.save({name: tensor for name, tensor in official.items() if name not in gone}, path)
    with pytest.raises(CheckpointError, match=f"3 missing: {', '.join(gone)}"):
        create_model("demo", weights=path)


def test_norms_need_no_counters(path: Path, state: dict[str, Tensor]) -> None:
    torch.save({name: t for name, t in state.items() if "num_batches" not in name}, path)
    assert create_model("demo", weights=path, fused=False).num_classes == 7


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


def test_entries_are_listed_by_their_names_in_the_file(path: Path) -> None:
    torch.save(
        {"head.4.weight": torch.zeros(2, 3, 1, 1), "blocks1.7.norm1.weight": torch.zeros(5)}, path
    )
    with pytest.raises(CheckpointError) as refusal:
        create_model("demo", weights=path)
    assert "1 unexpected: blocks1.7.norm1.weight;" in str(refusal.value)
    assert "of the wrong shape: head.4.weight is (2, 3, 1, 1)" in str(refusal.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_of_a_training_that_diverged_are_refused(
    path: Path, state: dict[str, Tensor], value: float
) -> None:
    torch.save(state | {"head.classify.bias": torch.full((7,), value)}, path)
    with pytest.raises(CheckpointError, match=r"not finite, .* in 1 entries: head\.classify\.bias"):
        create_model("demo", weights=path)


def test_parameters_that_lie_in_other_files_are_refused(
    path: Path, network: ImageClassifier
) -> None:
    parameters = {name for name, _ in network.named_parameters()}
    zero3 = {
        name: torch.empty(0) if name in parameters else tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save({"module": zero3, "ds_version": "0.16"}, path)
    with pytest.raises(CheckpointError, match=r"without values, as DeepSpeed's .* Gather them"):
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
    with pytest.raises(
        CheckpointError,
        match=rf"(not plain floating-point tensors|no tensors where weights should be): {name}",
    ):
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
    with pytest.raises(CheckpointError, match=rf"\.pth holds one entry twice: .*{second}\."):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "weight", [None, torch.tensor(1.0), torch.zeros(0, 4, 1, 1)], ids=["none", "scalar", "empty"]
)
def test_file_without_a_classifier_is_refused(path: Path, weight: Tensor | None) -> None:
    entries = {"head.4.bias": torch.zeros(2)}
    torch.save(entries if weight is None else entries | {"head.4.weight": weight}, path)
    with pytest.raises(
        CheckpointError, match=r"holds no head\.4\.weight, which a classifier has\."
    ):
        create_model("demo", weights=path)
