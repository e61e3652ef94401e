"""The proposal network's anchors."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.heads.anchors import ASPECT_RATIOS, grid_anchors
from support.box_problems import ANCHOR_PROBLEMS

RATIOS = torch.tensor(ASPECT_RATIOS)


def test_anchors_of_a_pixel_have_one_area_and_three_shapes() -> None:
    wide, square, tall = grid_anchors(1, 1, 16, RATIOS)
    # 8 strides are 128 pixels; 64 * sqrt(2) = 90.50967, 64 / sqrt(2) = 45.254834
    assert_close(wide, torch.tensor([-90.50967, -45.254834, 90.50967, 45.254834]))
    assert_close(square, torch.tensor([-64.0, -64.0, 64.0, 64.0]))
    assert_close(tall, torch.tensor([-45.254834, -90.50967, 45.254834, 90.50967]))


def test_anchors_go_by_row_then_column_then_shape() -> None:
    anchors = grid_anchors(2, 3, 4, RATIOS)
    assert anchors.shape == (2 * 3 * 3, 4)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    want = [[4.0 * column, 4.0 * row] for row in range(2) for column in range(3) for _ in range(3)]
    assert_close(centers, torch.tensor(want))
    assert_close(anchors[:3] - centers[:3].repeat(1, 2), anchors[-3:] - centers[-3:].repeat(1, 2))


@pytest.mark.parametrize("name", ANCHOR_PROBLEMS)
def test_anchors_rounded_are_torchvisions(torchvisions: Mapping[str, Tensor], name: str) -> None:
    # torchvision rounds an anchor's half sides to whole pixels, mmdetection does not.
    anchors = grid_anchors(*ANCHOR_PROBLEMS[name], RATIOS)
    assert_close(anchors.round(), torchvisions[f"anchors/{name}"], rtol=0, atol=0)
