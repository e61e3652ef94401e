"""The large kernel's branches and their merged form."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from model.backbone.layers import ConvNorm
from model.backbone.reparam import DILATED_BRANCHES, DilatedReparam, large_kernel_conv
from support.filled import filled, random_map

EXACT = 1e-12  # float64, sums of at most 17 * 17 products


@pytest.mark.parametrize("kernel_size", DILATED_BRANCHES)
def test_merged_convolution_equals_its_branches(kernel_size: int) -> None:
    branches = filled(DilatedReparam(6, kernel_size))
    features = random_map(2, 6, 19, 23)
    assert_close(branches.merged()(features), branches(features), rtol=0, atol=EXACT)


@pytest.mark.parametrize("kernel_size", DILATED_BRANCHES)
def test_merged_convolution_equals_its_branches_on_a_map_below_the_kernel(kernel_size: int) -> None:
    branches = filled(DilatedReparam(4, kernel_size))
    features = random_map(1, 4, 1, 5)
    assert_close(branches.merged()(features), branches(features), rtol=0, atol=EXACT)


@pytest.mark.parametrize("kernel_size", DILATED_BRANCHES)
def test_every_branch_fits_into_the_large_kernel(kernel_size: int) -> None:
    for size, dilation in DILATED_BRANCHES[kernel_size]:
        assert dilation * (size - 1) + 1 <= kernel_size


@pytest.mark.parametrize("kernel_size", DILATED_BRANCHES)
def test_norm_behind_the_branches_folds_too(kernel_size: int) -> None:
    layer = filled(ConvNorm(DilatedReparam(4, kernel_size), 4))
    features = random_map(1, 4, 9, 11)
    want = layer(features)
    inner = layer.conv
    assert isinstance(inner, DilatedReparam)
    layer.conv = inner.merged()
    assert_close(layer.folded()(features), want, rtol=0, atol=EXACT)


def test_merging_leaves_the_branches_alone() -> None:
    branches = filled(DilatedReparam(4, 7))
    before = {name: tensor.clone() for name, tensor in branches.state_dict().items()}
    branches.merged()
    assert_close(dict(branches.state_dict()), before, rtol=0, atol=0)


def test_merged_form_is_one_depthwise_convolution_with_a_bias() -> None:
    conv = large_kernel_conv(6, 13, merged=True)
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.shape == (6, 1, 13, 13)
    assert conv.bias is not None
    assert conv(torch.zeros(1, 6, 5, 9)).shape == (1, 6, 5, 9)
