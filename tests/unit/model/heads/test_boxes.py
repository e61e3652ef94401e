"""Arithmetic on boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.heads.boxes import box_areas, clip_boxes, decode_boxes, pairwise_iou
from support.box_problems import CLIP_PROBLEMS, DECODE_PROBLEMS, IOU_PROBLEMS

STDS = (0.1, 0.1, 0.2, 0.2)
BOX = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # centre (20, 40), sides (20, 40)
TOLERANCE = 1e-5  # float32 at coordinates below 100


def test_deltas_of_zero_keep_a_box() -> None:
    assert_close(decode_boxes(BOX, torch.zeros(1, 4), STDS), BOX, rtol=0, atol=TOLERANCE)


def test_deltas_shift_by_sides_and_resize_exponentially() -> None:
    deltas = torch.tensor([[1.0, -1.0, math.log(2) / 0.2, math.log(0.5) / 0.2]])
    want = torch.tensor([[2.0, 26.0, 42.0, 46.0]])  # centre (22, 36), sides (40, 20)
    assert_close(decode_boxes(BOX, deltas, STDS), want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("delta", "ratio"), [(100.0, 62.5), (-100.0, 1 / 62.5)])
def test_a_side_changes_by_a_factor_of_62_and_a_half_at_most(delta: float, ratio: float) -> None:
    deltas = torch.tensor([[0.0, 0.0, delta, delta]])
    x1, y1, x2, y2 = decode_boxes(BOX, deltas, STDS)[0].tolist()
    assert (x2 - x1, y2 - y1) == pytest.approx((20 * ratio, 40 * ratio), rel=1e-5)


def test_boxes_of_bfloat16_deltas_are_float32() -> None:
    deltas = torch.zeros(1, 4, dtype=torch.bfloat16)
    boxes = BOX + 1000.25  # bfloat16 would round it to a multiple of 8
    assert_close(decode_boxes(boxes, deltas, STDS), boxes, rtol=0, atol=1e-4)


def test_clipping_cuts_every_side_at_its_border() -> None:
    boxes = torch.tensor([[-5.0, -6.0, 50.0, 60.0], [45.0, 1.0, 46.0, 2.0]])
    want = torch.tensor([[0.0, 0.0, 40.0, 30.0], [40.0, 1.0, 40.0, 2.0]])
    assert_close(clip_boxes(boxes, (30, 40)), want, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "want"),
    [
        ((0.0, 0.0, 10.0, 10.0), 1.0),
        ((5.0, 0.0, 15.0, 10.0), 1 / 3),
        ((2.0, 2.0, 7.0, 4.0), 0.1),
        ((10.0, 0.0, 20.0, 10.0), 0.0),
        ((11.0, 12.0, 20.0, 20.0), 0.0),
        ((3.0, 3.0, 3.0, 3.0), 0.0),
    ],
)
def test_iou_is_intersection_over_union(
    other: tuple[float, float, float, float], want: float
) -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    iou = pairwise_iou(boxes, torch.tensor([other]))
    assert iou.shape == (1, 1)
    assert iou.item() == pytest.approx(want, rel=1e-6)


def test_iou_of_boxes_without_area_is_above_no_threshold() -> None:
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert not (pairwise_iou(point, point) > 0).any()


@pytest.mark.parametrize("name", DECODE_PROBLEMS)
def test_decoded_boxes_are_torchvisions(torchvisions: Mapping[str, Tensor], name: str) -> None:
    boxes, deltas, stds = DECODE_PROBLEMS[name]
    want = torchvisions[f"decode/{name}"]
    # float64 of coordinates up to a thousand, by the same steps in another order
    got = decode_boxes(boxes.unsqueeze(1), deltas, stds)
    assert_close(got, want, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", CLIP_PROBLEMS)
def test_clipped_boxes_are_torchvisions(torchvisions: Mapping[str, Tensor], name: str) -> None:
    want = torchvisions[f"clip/{name}"]
    assert_close(clip_boxes(*CLIP_PROBLEMS[name]), want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", IOU_PROBLEMS)
def test_areas_and_ious_are_torchvisions(torchvisions: Mapping[str, Tensor], name: str) -> None:
    boxes, others = IOU_PROBLEMS[name]
    # float32 keeps 24 significant bits, and a few operations round.
    areas, ious = torchvisions[f"area/{name}"], torchvisions[f"iou/{name}"]
    assert_close(box_areas(boxes), areas, rtol=1e-6, atol=0, equal_nan=True)
    assert_close(pairwise_iou(boxes, others), ious, rtol=1e-6, atol=0, equal_nan=True)
