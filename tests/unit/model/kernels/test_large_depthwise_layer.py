"""A network's large depthwise convolutions get a choice; the others and the numbers stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.config import BACKBONES
from model.fuse import fold
from model.heads.classifier import ImageClassifier
from model.kernels.choices import KernelChoices
from model.kernels.depthwise_taps import lay_out
from model.kernels.large_depthwise_layer import LargeDepthwiseLayer, choose_depthwise
from unit.model.filled import filled, random_map


@pytest.fixture
def network() -> ImageClassifier:
    return fold(filled(ImageClassifier(BACKBONES["nano"], 10), torch.float32))


def test_every_large_kernel_is_replaced_and_the_logits_stay(network: ImageClassifier) -> None:
    images = random_map(1, 3, 64, 64, dtype=torch.float32)
    want = network(images)
    config = network.backbone.config
    assert choose_depthwise(network, KernelChoices()) == sum(config.depths + config.focus_depths)
    assert_close(network(images), want, rtol=0, atol=0)
    assert choose_depthwise(network, KernelChoices()) == 0


def test_kernels_without_a_choice_are_left_alone() -> None:
    others = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=4),  # small
        nn.Conv2d(4, 4, 7, padding=3),  # dense
        nn.Conv2d(4, 4, 7, padding=3, groups=4, bias=False),  # not folded
        nn.Conv2d(4, 4, 7, padding=3, groups=4, stride=2),
        nn.Conv2d(4, 4, 7, padding=6, groups=4, dilation=2),
    )
    assert choose_depthwise(others, KernelChoices()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_taps_are_laid_out_for_the_networks_dtype(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(4, 4, 7, padding=3, groups=4).to(dtype)
    layer = LargeDepthwiseLayer(conv, KernelChoices())
    assert (layer.weight.dtype, layer.taps.dtype) == (dtype, dtype)
    assert_close(layer.taps, lay_out(conv.weight))


def test_layer_compiles_into_one_graph(network: ImageClassifier) -> None:
    choose_depthwise(network, KernelChoices())
    layer = network.backbone.stage1[0].get_submodule("large_kernel")
    features = random_map(1, 16, 9, 9, dtype=torch.float32)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert_close(compiled(features), layer(features), rtol=0, atol=0)
