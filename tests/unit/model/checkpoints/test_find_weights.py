"""Weights are found by content, whatever wraps them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.checkpoints.find_weights import WeightsError, find_weights
from model.checkpoints.inert_arrays import InertArray
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
    assert sorted(found.state) == sorted(weights())
    assert found.state[FIRST].item() == 1
    assert not found.has_both


def test_the_backbone_of_a_larger_network_keeps_its_prefix() -> None:
    state = {f"model.backbone.{FIRST}": torch.ones(1), "model.neck.bias": torch.ones(1)}
    assert sorted(find_weights(state, Tensor).state) == [f"backbone.{FIRST}", "neck.bias"]


RAW_AND_AVERAGED = {
    "timm": {"state_dict": weights(0), "state_dict_ema": weights()},
    "DeiT": {"model": weights(0), "model_ema": weights()},
    "a whole object's state": {"model": weights(0), "ema": {"module": weights()}},
    "ultralytics": {"model": weights(0), "ema": weights(), "updates": 7},
    "BasicSR": {"params": weights(0), "params_ema": weights()},
    "by name": {"model": weights(0), "swa_model": weights(prefix="module.")},
    "AveragedModel by its counter": {
        "net": weights(0),
        "smooth": weights(prefix="module.") | {"n_averaged": torch.tensor(3)},
    },
    "attributes": {"state_dict": weights(0, prefix="model.") | weights(prefix="ema_model.")},
    "attributes, AveragedModel": {
        "state_dict": weights(0, prefix="model.")
        | weights(prefix="smooth.module.")
        | {"smooth.n_averaged": torch.tensor(3)}
    },
    "ema-pytorch, with its online model": {
        "ema": weights(0, prefix="online_model.")
        | weights(prefix="ema_model.")
        | {"initted": torch.tensor(True), "step": torch.tensor(3)}
    },
    "a callback's state": {
        "state_dict": weights(0, prefix="model."),
        "callbacks": {"EMACallback{'decay': 0.9}": {"shadow": weights(prefix="model.")}},
    },
    "Lightning's StochasticWeightAveraging": {
        "state_dict": weights(0, prefix="model."),
        "callbacks": {
            "StochasticWeightAveraging": {"average_model_state": weights(prefix="model.")}
        },
    },
    "Lightning's WeightAveraging": {
        "state_dict": weights(prefix="model."),
        "current_model_state": weights(0, prefix="model."),
        "averaging_state": {"n_averaged": torch.tensor(3)},
    },
    "mmengine": {
        "state_dict": weights(),
        "ema_state_dict": weights(0, prefix="module.") | {"steps": torch.tensor(1)},
        "message_hub": {},
    },
}


@pytest.mark.parametrize("form", RAW_AND_AVERAGED)
@pytest.mark.parametrize(("ema", "value"), [(True, 1), (False, 0)])
def test_averaged_weights_are_preferred_and_raw_ones_given_when_asked_for(
    form: str, ema: bool, value: int
) -> None:
    found = find_weights(RAW_AND_AVERAGED[form], Tensor, ema=ema)
    assert found.state[FIRST].item() == value
    assert sorted(found.state) == sorted(weights())
    assert found.kind == ("ema" if ema else "raw")
    assert found.has_both


ALONE: dict[str, dict[str, Any]] = {
    "timm": {"state_dict_ema": weights()},
    "AveragedModel": weights(prefix="module.") | {"n_averaged": torch.tensor(3)},
    "attribute": {"state_dict": weights(prefix="model_ema.")},
}


@pytest.mark.parametrize("form", ALONE)
def test_averaged_weights_alone_are_not_given_for_raw_ones(form: str) -> None:
    found = find_weights(ALONE[form], Tensor)
    assert (found.kind, found.has_both) == ("ema", False)
    with pytest.raises(WeightsError, match=r"holds EMA weights alone, at .*\(ema = false or --raw"):
        find_weights(ALONE[form], Tensor, ema=False)


@pytest.mark.parametrize("name", ["schema", "SCHEMA", "cinema", "remake", "Email", "emanuel"])
def test_a_name_that_only_resembles_an_average_is_raw(name: str) -> None:
    assert find_weights({name: weights()}, Tensor, ema=False).kind == "raw"


def test_an_average_of_parameters_alone_gets_the_raw_networks_statistics() -> None:
    statistics = {"patch_embed1.1.running_mean": torch.ones(1)}
    averaged = weights()
    contents = {"state_dict": weights(0) | statistics, "callbacks": {"EMA": averaged}}
    assert find_weights(contents, Tensor).state == averaged | statistics
    averaged["patch_embed1.1.running_mean"] = torch.zeros(1)
    assert find_weights(contents, Tensor).state == averaged


def test_two_raw_networks_beside_an_average_are_refused_when_raw_ones_are_asked_for() -> None:
    contents = {"student": weights(0), "teacher": weights(2), "student_ema": weights()}
    assert find_weights(contents, Tensor).state[FIRST].item() == 1
    with pytest.raises(WeightsError, match=r"which one is the raw one: \['student'\], \['teacher'"):
        find_weights(contents, Tensor, ema=False)


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
    assert find_weights(state_and_itself, Tensor).state == state


def test_shared_lists_are_visited_once() -> None:
    nested: list[Any] = [{}]
    for _ in range(60):
        nested = [nested, nested]
    assert find_weights({"model": weights(), "log": nested}, Tensor).state[FIRST].item() == 1


def test_tensors_of_another_network_beside_the_prefix_are_refused() -> None:
    state = weights(prefix="model.") | {"classifier.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"under 'model\.', and beside.*: classifier\.weight\."):
        find_weights(state, Tensor)


def test_an_object_in_place_of_a_weight_is_refused_by_its_class() -> None:
    state = weights() | {"head.4.weight": Inert("torchao.Quantized")}
    with pytest.raises(WeightsError, match=r"should be: head\.4\.weight \(torchao\.Quantized\)"):
        find_weights(state, Tensor)


def test_an_array_in_place_of_a_weight_is_called_numpys() -> None:
    with pytest.raises(WeightsError, match=rf"should be: {FIRST} \(numpy\.ndarray\)"):
        find_weights({FIRST: InertArray()}, Tensor)


def test_names_in_a_refusal_are_short_lines() -> None:
    with pytest.raises(WeightsError, match=r"\\n") as refusal:
        find_weights({"model": {"\n" + "x" * 5000: torch.zeros(1)}}, Tensor)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


def test_a_prefix_in_a_refusal_is_printable() -> None:
    with pytest.raises(WeightsError, match="and beside them tensors") as refusal:
        find_weights(weights(prefix="\x1b[2J.") | {"other": torch.zeros(1)}, Tensor)
    assert str(refusal.value).isprintable()


def test_objects_instead_of_weights_are_named_with_their_places() -> None:
    with pytest.raises(WeightsError, match=r"timm\.ModelEma at \['run'\]\['ema'\]"):
        find_weights({"run": {"ema": Inert("timm.ModelEma")}, "epoch": 3}, Tensor)


def test_shapes_under_the_weights_names_are_no_second_network() -> None:
    shapes = {name: Inert("torch.Size") for name in weights()}
    deepspeed = {"module": weights(), "param_shapes": [shapes], "ds_version": "0.16"}
    assert find_weights(deepspeed, Tensor).state[FIRST].item() == 1


def test_weights_are_sought_to_a_depth_without_taking_longer_for_a_deeper_file() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert find_weights({"log": nested, "model": weights()}, Tensor).state[FIRST].item() == 1
