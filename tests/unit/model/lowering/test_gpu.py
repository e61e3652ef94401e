"""A network lowered for a GPU computes the same, and keeps all other modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.config import BACKBONES
from model.heads.classifier import ImageClassifier
from model.kernels.gpu.autotune import Autotuner
from model.lowering.folding import fold
from model.lowering.gpu import lower_for_gpu
from model.lowering.gpu_blocks import GpuBasicBlock, GpuDynamicBlock
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


def test_every_block_is_replaced(network: ImageClassifier) -> None:
    lower_for_gpu(network, Autotuner())
    config = network.backbone.config
    basic, dynamic = sum(config.depths), sum(config.focus_depths)
    assert (count(network, GpuBasicBlock), count(network, GpuDynamicBlock)) == (basic, dynamic)
    assert (count(network, BasicBlock), count(network, DynamicBlock)) == (0, 0)


def test_a_network_is_rewritten_once(network: ImageClassifier) -> None:
    lower_for_gpu(network, Autotuner())
    parts = list(network.modules())
    lower_for_gpu(network, Autotuner())
    assert list(network.modules()) == parts


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1.0", "focus3.blocks.0"])
def test_block_compiles_into_one_graph(network: ImageClassifier, stage: str) -> None:
    lower_for_gpu(network, Autotuner())
    config = network.backbone.config
    block = network.backbone.get_submodule(stage)
    maps = [random_map(2, config.channels[0], 9, 8)]
    if stage != "stage1.0":
        context = random_map(2, config.context_channels, 14, 15)
        joint = random_map(2, config.channels[2] + config.context_channels, 14, 15)
        maps = [joint, context]
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    assert_close(compiled(*maps), block(*maps), rtol=0, atol=0)
