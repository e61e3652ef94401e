"""The two blocks: shapes, which parts exist, and that folding keeps the function."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.layers import LayerScale
from model.config import BACKBONES
from model.lowering.folding import fold
from support.filled import filled, random_map

NANO = BACKBONES["nano"]
EXACT = 1e-10  # float64, a dozen layers


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("layer_scale", [False, True])
def test_folded_basic_block_is_the_same_function(layer_scale: bool, merged: bool) -> None:
    block = filled(BasicBlock(8, 13, 4, layer_scale=layer_scale, merged=merged))
    features = random_map(2, 8, 9, 15)
    want = block(features)
    assert want.shape == features.shape
    assert_close(fold(copy.deepcopy(block))(features), want, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("layer_scale", [False, True])
def test_basic_block_scales_its_identity_only_where_asked(layer_scale: bool) -> None:
    block = BasicBlock(8, 7, 4, layer_scale=layer_scale, merged=True)
    assert isinstance(block.identity_scale, LayerScale if layer_scale else nn.Identity)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("stage", [2, 3])
def test_folded_dynamic_block_is_the_same_function(stage: int, first: bool) -> None:
    block = filled(DynamicBlock(NANO, stage, first=first, merged=False))
    features = random_map(2, NANO.channels[stage], 15, 8)
    context, initial = random_map(2, 2, NANO.context_channels, 15, 8)
    want = block(features, context, initial)
    assert want.shape == (2, NANO.channels[stage] + NANO.context_channels, 15, 8)
    assert_close(
        fold(copy.deepcopy(block))(features, context, initial), want, rtol=EXACT, atol=EXACT
    )


def test_first_dynamic_block_ignores_the_initial_context() -> None:
    block = filled(DynamicBlock(NANO, 2, first=True, merged=True))
    features = random_map(1, NANO.channels[2], 14, 14)
    context = random_map(1, NANO.context_channels, 14, 14)
    assert_close(block(features, context, context), block(features, context, context + 1))


def test_later_dynamic_blocks_mix_in_the_initial_context() -> None:
    block = filled(DynamicBlock(NANO, 2, first=False, merged=True))
    features = random_map(1, NANO.channels[2], 14, 14)
    context = random_map(1, NANO.context_channels, 14, 14)
    same = block(features, context, context)
    assert not torch.allclose(same, block(features, context, context + 1))
