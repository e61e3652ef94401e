"""A scaled product is a 1x1 convolution of a scaled map, whichever of the two is scaled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model.config import BACKBONES
from model.kernels.scaled_product import (
    add_product,
    as_rows,
    scaled_product,
    scales_weight,
)
from model.lowering.pixel_product import pixel_product
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
    got = scaled_product(features, weight, lambda rows: rows * scale.unsqueeze(1))
    assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert got.is_contiguous(memory_format=torch.channels_last)
    residual = random_map(batch, 4, height, width).contiguous(memory_format=layout)
    total = residual + want
    added = scaled_product(features, weight, lambda rows: rows * scale.unsqueeze(1), residual)
    assert added is residual
    assert_close(added, total, rtol=1e-12, atol=1e-12)
    add_product(residual, as_rows(features), weight)
    assert_close(residual, total + F.conv2d(features, kernel), rtol=1e-12, atol=1e-12)


def test_adding_a_product_keeps_its_schema() -> None:
    residual, rows = random_map(2, 4, 3, 5), random_map(2, 15, 6)
    for weight in (random_map(4, 6), random_map(2, 4, 6)):
        for layout in (torch.channels_last, torch.contiguous_format):
            arguments = (residual.contiguous(memory_format=layout), rows, weight)
            torch.library.opcheck(add_product, arguments)


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
