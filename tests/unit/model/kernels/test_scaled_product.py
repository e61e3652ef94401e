"""A scaled product is a 1x1 convolution of a scaled map, whichever of the two is scaled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.config import BACKBONES
from model.kernels.scaled_product import pixel_product, scaled_product, scales_weight
from support.filled import random_map


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (2, 3, 1), (3, 5, 7)])
def test_product_is_a_convolution(
    batch: int, height: int, width: int, layout: torch.memory_format
) -> None:
    features = random_map(batch, 6, height, width).contiguous(memory_format=layout)
    weight, scale = random_map(4, 6), random_map(batch, 6)
    kernel = weight[:, :, None, None]
    assert_close(pixel_product(features, weight), F.conv2d(features, kernel))
    want = F.conv2d(features * scale[:, :, None, None], kernel)
    got = scaled_product(features, scale, weight)
    assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("side", [2, 5])
def test_a_scale_of_float32_keeps_a_short_dtype(side: int) -> None:
    features = random_map(2, 6, side, side, dtype=torch.bfloat16)
    product = scaled_product(features, torch.ones(2, 6), random_map(9, 6, dtype=torch.bfloat16))
    assert product.dtype == torch.bfloat16


def test_the_weight_is_scaled_where_it_is_smaller_than_the_map() -> None:
    config = BACKBONES["overlock_t"]
    sides = (56, 28, 14, 7)  # of a 224x224 image
    projects = [
        scales_weight(channels, side, side)
        for channels, side in zip(config.channels, sides, strict=True)
    ]
    expands = [
        scales_weight(config.hidden_channels(stage), side, side) for stage, side in enumerate(sides)
    ]
    assert (projects, expands) == ([True, True, False, False], [True, True, False, False])
