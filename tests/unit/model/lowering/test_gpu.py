"""A network lowered for a GPU computes the same, and keeps all other modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.backbone.layers import SqueezeExcite
from model.config import BACKBONES
from model.heads.classifier import ImageClassifier
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_layout import lay_out
from model.lowering.folding import fold
from model.lowering.gpu import Excite, ExcitedDepthwise, LargeDepthwise, lower_for_gpu
from support.filled import filled, random_map


@pytest.fixture
def network() -> ImageClassifier:
    return fold(filled(ImageClassifier(BACKBONES["nano"], 10)))


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in network.modules())


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 32, 77)])
def test_logits_stay(network: ImageClassifier, batch: int, height: int, width: int) -> None:
    images = random_map(batch, 3, height, width)
    want = network(images)
    lower_for_gpu(network, Autotuner())
    assert_close(network(images), want, rtol=1e-12, atol=1e-12)


def test_every_large_kernel_and_every_excitation_is_replaced(network: ImageClassifier) -> None:
    lower_for_gpu(network, Autotuner())
    config = network.backbone.config
    blocks = sum(config.depths + config.focus_depths)
    assert (count(network, LargeDepthwise), count(network, Excite)) == (blocks, blocks)
    assert count(network, SqueezeExcite) == 0
    # A dynamic block's excitation is of a sum, which no convolution knows.
    assert count(network, ExcitedDepthwise) == sum(config.depths)


def test_a_network_is_rewritten_once(network: ImageClassifier) -> None:
    lower_for_gpu(network, Autotuner())
    parts = list(network.modules())
    lower_for_gpu(network, Autotuner())
    assert list(network.modules()) == parts


def test_other_convolutions_are_left_alone() -> None:
    others = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=4),  # small
        nn.Conv2d(4, 4, 7, padding=3),  # dense
        nn.Conv2d(4, 4, 7, padding=3, groups=4, bias=False),  # not folded
        nn.Conv2d(4, 4, 7, padding=3, groups=4, stride=2),
        nn.Conv2d(4, 4, 7, padding=6, groups=4, dilation=2),
    )
    parts = list(others)
    lower_for_gpu(others, Autotuner())
    assert list(others) == parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_taps_are_laid_out_for_the_networks_dtype(dtype: torch.dtype) -> None:
    conv = nn.Conv2d(4, 4, 7, padding=3, groups=4).to(dtype)
    layer = LargeDepthwise(conv, Autotuner())
    assert (layer.weight.dtype, layer.taps.dtype) == (dtype, dtype)
    assert_close(layer.taps, lay_out(conv.weight))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "focus3"])
def test_block_compiles_into_one_graph(network: ImageClassifier, stage: str) -> None:
    lower_for_gpu(network, Autotuner())
    config = network.backbone.config
    block = network.backbone.get_submodule(f"{stage}.0")
    maps = [random_map(2, config.channels[0], 9, 8)]
    if stage == "focus3":
        context = random_map(2, config.context_channels, 14, 15)
        maps = [random_map(2, config.channels[2], 14, 15), context, context]
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    assert_close(compiled(*maps), block(*maps), rtol=0, atol=0)
