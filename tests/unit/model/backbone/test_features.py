"""A backbone alone gives its four maps."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from model.backbone.features import STRIDES, FeatureExtractor
from model.config import BACKBONES
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.zoo import create_model
from support.filled import random_map

WIDTHS = (16, 32, 64 + 24, 96 + 24)


@pytest.mark.parametrize("fused", [True, False])
def test_a_classifiers_backbone_gives_four_maps(fused: bool) -> None:
    network = create_model("demo", weights="demo", features=True, fused=fused)
    assert network.channels == WIDTHS
    maps = network(random_map(1, 3, 64, 96, dtype=torch.float32))
    want = [(1, width, 64 // s, 96 // s) for width, s in zip(WIDTHS, STRIDES, strict=True)]
    assert [tuple(each.shape) for each in maps] == want
    assert not network.training
    assert [each.requires_grad for each in maps] == [not fused] * 4


def test_the_folded_form_is_the_same_function() -> None:
    images = random_map(1, 3, 70, 45, dtype=torch.float32)
    trained, folded = (
        create_model("demo", weights="demo", features=True, fused=fused)(images)
        for fused in (False, True)
    )
    for got, want in zip(folded, trained, strict=True):
        assert_close(got, want.detach(), rtol=0, atol=1e-4 * want.abs().max().item())


def test_the_last_map_is_what_the_classifier_reads() -> None:
    images = random_map(1, 3, 64, 64, dtype=torch.float32)
    network = create_model("demo", weights="demo")
    *_, last = create_model("demo", weights="demo", features=True)(images)
    assert_close(network.get_submodule("head")(last), network(images))


def test_a_segmenters_maps_are_under_its_norms() -> None:
    images = random_map(1, 3, 64, 64, dtype=torch.float32)
    network = create_model("demo", task="segment", weights="demo")
    maps = create_model("demo", task="segment", weights="demo", features=True)(images)
    assert_close(network.get_submodule("head")(maps), network(images))


def test_gradients_reach_every_parameter_that_a_map_depends_on() -> None:
    network = create_model("demo", weights="random", features=True, fused=False).train()
    maps = network(random_map(2, 3, 64, 64, dtype=torch.float32))
    sum(each.square().mean() for each in maps).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_folded_backbone_refuses_to_be_trained() -> None:
    with pytest.raises(ValueError, match="inference only"):
        create_model("demo", weights="random", features=True).train()


@pytest.mark.skipif(
    lowering_unsupported_reason(torch.float32) is not None,
    reason=str(lowering_unsupported_reason(torch.float32)),
)
def test_the_form_for_a_cpu_gives_the_same_maps() -> None:
    images = random_map(1, 3, 64, 96, dtype=torch.float32)
    network = create_model("demo", weights="demo", features=True)
    want = network(images)
    with torch.inference_mode():
        got = lower_for_cpu(network, torch.float32)(images)
    for got_map, want_map in zip(got, want, strict=True):
        assert_close(got_map, want_map, rtol=0, atol=2e-5 * want_map.abs().max().item())


def test_channels_are_the_configurations() -> None:
    network = create_model("demo", weights="random", features=True)
    assert isinstance(network, FeatureExtractor)
    assert network.channels[2] == BACKBONES["nano"].channels[2] + 24
