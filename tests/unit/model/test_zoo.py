"""Networks by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.backbone.layers import DropPath
from model.backbone.reparam import DilatedReparam
from model.checkpoints.checkpoint import CheckpointError
from model.config import CLASSIFIERS
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
