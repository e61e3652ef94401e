"""The feature pyramid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from model.heads.fpn import FeaturePyramid
from support.filled import filled, random_map

SIZES = ((9, 13), (5, 7), (3, 4), (2, 2))
WIDTHS = (3, 4, 5, 6)


def test_levels_are_the_definition_on_odd_sizes() -> None:
    pyramid = filled(FeaturePyramid(WIDTHS, 8))
    maps = [random_map(2, width, *size) for width, size in zip(WIDTHS, SIZES, strict=True)]
    merged = [lateral(level) for level, lateral in zip(maps, pyramid.laterals, strict=True)]
    for finer in (2, 1, 0):
        merged[finer] = merged[finer] + _nearest(merged[finer + 1], merged[finer].shape[2:])
    want = [output(level) for level, output in zip(merged, pyramid.outputs, strict=True)]
    levels = pyramid(maps)
    assert len(levels) == 5
    for level, expected in zip(levels, want, strict=False):
        assert_close(level, expected, rtol=0, atol=1e-12)  # float64, short sums


def test_fifth_level_is_every_second_pixel_of_the_fourth() -> None:
    pyramid = filled(FeaturePyramid(WIDTHS, 8))
    maps = [random_map(1, width, 5, 7) for width in WIDTHS]
    *_, fourth, fifth = pyramid(maps)
    assert_close(fifth, F.max_pool2d(fourth, 1, stride=2), rtol=0, atol=0)


def _nearest(level: Tensor, size: torch.Size) -> Tensor:
    """Pixel (row, column) comes from (row * h // H, column * w // W)."""
    (height, width), (new_height, new_width) = level.shape[2:], size
    rows = torch.arange(new_height) * height // new_height
    columns = torch.arange(new_width) * width // new_width
    return level[:, :, rows][:, :, :, columns]
