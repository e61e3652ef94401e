"""Weights are found by content, whatever wraps them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoints.find_weights import WeightsError, find_weights
from model.checkpoints.stand_ins import Inert

FIRST = "patch_embed1.0.weight"


def weights(value: float = 1.0, *, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + FIRST: torch.full((1,), value), prefix + "head.4.bias": torch.zeros(2)}


def wrapped(*prefixes: str) -> list[Any]:
    return [pytest.param(weights(prefix=prefix), id=prefix) for prefix in prefixes]


@pytest.mark.parametrize(
    "contents",
    [
        *wrapped(
            "", "module.", "_orig_mod.", "model.", "net.", "module.model.", "model._orig_mod."
        ),
        *wrapped("_orig_mod.module.", "model.module.net.", "student.model.", "lit.network."),
        {"state_dict": weights(prefix="model."), "loops": {"epoch": [1]}},
        {"module": weights(), "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}},
        {"module": {"module": weights(prefix="module.")}},
        {"model_state_dict": weights(), "loss": 0.5, "epoch": 3},
        {"net": weights(), "acc": torch.zeros(1)},
        {"params": weights()},
        {"checkpoints": [{"weights": weights()}]},
        {**weights(prefix="module."), "n_averaged": torch.tensor(3)},
        {
            "state_dict": {**weights(), "data_preprocessor.mean": torch.zeros(3)},
            "message_hub": {"loss": Inert("mmengine.logging.history_buffer.HistoryBuffer")},
        },
        {"state_dict": {**weights(prefix="model."), "criterion.weight": torch.zeros(2)}},
        {"state_dict": weights(), "args": Inert("argparse.Namespace"), "cfg": Inert("CfgNode")},
        {"model": weights(), "optimizer": {"exp_avg": weights(2.0)}},
        {"model": weights(), "scales": {FIRST: 0.5}, "lr": Inert("numpy.float64")},
    ],
)
def test_the_one_mapping_is_found_without_its_prefix(contents: Any) -> None:
    found = find_weights(contents, Tensor)
    assert sorted(found) == sorted(weights())
    assert found[FIRST].item() == 1


def test_the_backbone_of_a_larger_network_keeps_its_prefix() -> None:
    state = {f"model.backbone.{FIRST}": torch.ones(1), "model.neck.bias": torch.ones(1)}
    assert sorted(find_weights(state, Tensor)) == [f"backbone.{FIRST}", "neck.bias"]


@pytest.mark.parametrize(
    "contents",
    [
        {"state_dict": weights(0), "state_dict_ema": weights()},
        {"model": weights(0), "model_ema": weights()},
        {"model": weights(0), "ema": {"module": weights()}},
        {"params": weights(0), "params_ema": weights()},
        {"model": weights(0), "swa_model": weights(prefix="module.")},
        {"state_dict": weights(0, prefix="model.") | weights(prefix="ema_model.")},
        # mmengine's hook swaps the two when it saves
        {
            "state_dict": weights(),
            "ema_state_dict": weights(0, prefix="module.") | {"steps": torch.tensor(1)},
            "message_hub": {},
        },
    ],
)
def test_averaged_weights_are_preferred(contents: Any) -> None:
    assert find_weights(contents, Tensor)[FIRST].item() == 1


@pytest.mark.parametrize(
    ("contents", "names"),
    [
        ({"teacher": weights(), "student": weights()}, r"\['teacher'\], \['student'\]"),
        ({"a_ema": weights(), "b_ema": weights()}, r"\['a_ema'\], \['b_ema'\]"),
        (
            {"model": weights(prefix="student.") | weights(prefix="teacher.")},
            r"\['model'\] under 'student\.', \['model'\] under 'teacher\.'",
        ),
        ([weights(), weights()], r"\['0'\], \['1'\]"),
    ],
)
def test_two_candidates_are_refused_by_name(contents: Any, names: str) -> None:
    with pytest.raises(WeightsError, match=rf"weights of 2 networks.*{names}"):
        find_weights(contents, Tensor)


def test_the_same_mapping_twice_is_one_candidate() -> None:
    state = weights()
    state_and_itself: dict[str, Any] = {"model": state, "state_dict": state}
    state_and_itself["self"] = state_and_itself
    assert find_weights(state_and_itself, Tensor) == state


def test_shared_lists_are_visited_once() -> None:
    nested: list[Any] = [{}]
    for _ in range(60):
        nested = [nested, nested]
    assert find_weights({"model": weights(), "log": nested}, Tensor)[FIRST].item() == 1


def test_tensors_of_another_network_beside_the_prefix_are_refused() -> None:
    state = weights(prefix="model.") | {"classifier.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"under 'model\.', and beside.*: classifier\.weight\."):
        find_weights(state, Tensor)


def test_an_object_in_place_of_a_weight_is_refused_by_its_class() -> None:
    state = weights() | {"head.4.weight": Inert("torchao.Quantized")}
    with pytest.raises(WeightsError, match=r"should be: head\.4\.weight \(torchao\.Quantized\)"):
        find_weights(state, Tensor)


def test_names_in_a_refusal_are_short_lines() -> None:
    with pytest.raises(WeightsError, match=r"\\n") as refusal:
        find_weights({"model": {"\n" + "x" * 5000: torch.zeros(1)}}, Tensor)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


def test_objects_instead_of_weights_are_named_with_their_places() -> None:
    with pytest.raises(WeightsError, match=r"timm\.ModelEma at \['run'\]\['ema'\]"):
        find_weights({"run": {"ema": Inert("timm.ModelEma")}, "epoch": 3}, Tensor)
