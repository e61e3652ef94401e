"""Networks by name."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from model.backbone.layers import DropPath
from model.backbone.reparam import DilatedReparam
from model.checkpoints.checkpoint import CheckpointError
from model.config import CLASSIFIERS, IMAGE_MEAN, IMAGE_STD, SEGMENTERS, Task
from model.images.input_config import InputOptions, InputSource
from model.labels.tables import imagenet_labels
from model.zoo import create_model, load_model
from support.filled import random_map


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no model 'overlock_m'; there are .*overlock_t.*demo"):
        create_model("overlock_m", weights="random")


def test_network_is_ready_to_infer() -> None:
    network = create_model("demo", weights="random")
    assert not any(part.training for part in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_network_is_folded_unless_asked_otherwise() -> None:
    parts = create_model("demo", weights="random").modules()
    assert not any(isinstance(part, (nn.BatchNorm2d, DilatedReparam)) for part in parts)


def test_unfused_network_keeps_norms_and_branches() -> None:
    parts = list(create_model("demo", weights="random", fused=False).modules())
    for kind in (nn.BatchNorm2d, DilatedReparam):
        assert any(isinstance(part, kind) for part in parts)


def test_unfused_network_can_be_trained() -> None:
    network = create_model("demo", weights="random", num_classes=3, fused=False)
    logits, overview_logits = network.train()(random_map(2, 3, 64, 64, dtype=torch.float32))
    (logits + overview_logits).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_drop_path_is_set_for_training() -> None:
    network = create_model("demo", weights="random", fused=False, drop_path_rate=0.3)
    assert max(part.rate for part in network.modules() if isinstance(part, DropPath)) == (
        pytest.approx(0.3)
    )


@pytest.mark.parametrize(("rate", "fused"), [(-0.1, False), (1.0, False), (0.1, True)])
def test_a_drop_path_rate_that_cannot_be_is_refused(rate: float, fused: bool) -> None:
    with pytest.raises(ValueError, match=f"drop_path_rate is {rate}: .* only with fused=False"):
        create_model("demo", weights="random", fused=fused, drop_path_rate=rate)


def test_random_weights_are_the_same_every_time() -> None:
    images = random_map(1, 3, 64, 64, dtype=torch.float32)
    first, second = (create_model("demo", weights="random")(images) for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)


def test_random_weights_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    create_model("demo", weights="random")
    assert_close(torch.rand(4), want, rtol=0, atol=0)


def test_random_network_says_that_it_is_random() -> None:
    loaded = load_model("demo", weights="random")
    assert loaded.weights == "random"
    assert loaded.digest is None


def test_a_thousand_classes_have_imagenets_labels() -> None:
    loaded = load_model("demo", weights="random")
    assert loaded.network.num_classes == 1000
    assert loaded.labels == imagenet_labels()


def test_other_numbers_of_classes_have_numbered_labels() -> None:
    loaded = load_model("demo", weights="random", num_classes=2)
    assert loaded.network(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert loaded.labels == ("class 0", "class 1")


@pytest.mark.parametrize("num_classes", [0, -1])
def test_less_than_one_class_is_refused(num_classes: int) -> None:
    with pytest.raises(ValueError, match=f"at least one class, not {num_classes}"):
        create_model("demo", weights="random", num_classes=num_classes)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "demo"])
def test_demo_weights_fit_the_demo_alone(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"no demo weights for {name}"):
        create_model(name, weights="demo")


@pytest.fixture
def averaged(tmp_path: Path) -> Path:
    """A checkpoint of timm, whose EMA weights are half of the raw ones."""
    raw = create_model("demo", weights="random", num_classes=3, fused=False).state_dict()
    floats = {name: tensor for name, tensor in raw.items() if tensor.is_floating_point()}
    halves = {name: tensor / 2 for name, tensor in floats.items()}
    torch.save({"state_dict": raw, "state_dict_ema": halves}, tmp_path / "last.pth.tar")
    return tmp_path / "last.pth.tar"


def bias_of(network: nn.Module) -> Tensor:
    return network.get_parameter("head.classify.bias")


@pytest.mark.slow
def test_averaged_weights_are_loaded_unless_the_raw_ones_are_asked_for(averaged: Path) -> None:
    ema, raw = (create_model("demo", weights=averaged, ema=ema) for ema in (True, False))
    assert_close(bias_of(ema), bias_of(raw) / 2, rtol=0, atol=0)
    kinds = [load_model("demo", weights=averaged, ema=ema).weights_kind for ema in (True, False)]
    assert kinds == ["ema", "raw"]


@pytest.mark.parametrize(
    ("ema", "choice"),
    [
        (True, "the EMA ones are used (ema = false or --raw takes the others)."),
        (False, "the raw ones are used, as ema = false or --raw says."),
    ],
)
def test_a_choice_between_weights_is_logged_once(
    averaged: Path, caplog: pytest.LogCaptureFixture, ema: bool, choice: str
) -> None:
    with caplog.at_level(logging.INFO):
        load_model("demo", weights=averaged, ema=ema)
    assert caplog.messages == [f"{averaged} holds EMA and raw weights; {choice}"]


def test_a_file_without_a_choice_logs_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = create_model("demo", weights="random", num_classes=3, fused=False).state_dict()
    torch.save(state, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        assert load_model("demo", weights=tmp_path / "w.pth").weights_kind == "raw"
    assert caplog.messages == []


def test_averaged_weights_alone_are_refused_where_raw_ones_are_asked_for(tmp_path: Path) -> None:
    state = create_model("demo", weights="random", num_classes=3, fused=False).state_dict()
    torch.save({"state_dict_ema": state}, tmp_path / "w.pth")
    assert load_model("demo", weights=tmp_path / "w.pth").weights_kind == "ema"
    with pytest.raises(CheckpointError, match=r"w\.pth holds EMA weights alone.*ema = false"):
        create_model("demo", weights=tmp_path / "w.pth", ema=False)


def test_the_input_is_the_architectures_unless_the_caller_states_another() -> None:
    stated = load_model("demo", weights="random").input
    assert stated.geometry == CLASSIFIERS["demo"].geometry
    assert (stated.mean, stated.std) == (IMAGE_MEAN, IMAGE_STD)
    assert set(stated.sources.values()) == {InputSource.ARCHITECTURE}
    options = InputOptions(input_size=384, interpolation="bilinear", mean=(0.5, 0.5, 0.5))
    stated = load_model("demo", weights="random", input_options=options).input
    assert stated.geometry == replace(
        CLASSIFIERS["demo"].geometry, crop_size=384, interpolation="bilinear"
    )
    assert stated.mean == (0.5, 0.5, 0.5)
    assert [name for name, source in stated.sources.items() if source is InputSource.FILE] == [
        "input_size",
        "interpolation",
        "mean",
    ]


def test_a_segmenters_input_keeps_its_published_geometry() -> None:
    stated = load_model("demo", task=Task.SEGMENT, weights="random").input
    assert stated.geometry == SEGMENTERS["demo"].geometry
    with pytest.raises(ValueError, match="input_size can be set for a classifier alone"):
        load_model(
            "demo", task="segment", weights="random", input_options=InputOptions(input_size=64)
        )


@pytest.mark.parametrize("fused", [True, False])
def test_a_mean_of_other_channels_than_the_networks_is_refused(fused: bool) -> None:
    with pytest.raises(ValueError, match="mean states 1 channel; the network's input has 3"):
        load_model("demo", weights="random", fused=fused, input_options=InputOptions(mean=(0.5,)))
