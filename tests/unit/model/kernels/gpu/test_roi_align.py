"""The Triton kernel of RoIAlign gives what the plain path gives in float64."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.heads.fpn import STRIDES
from model.heads.roi_align import FINEST_SIDE_PIXELS, PyramidPixels, roi_align
from support.box_problems import EDGE_BOXES, PYRAMID, PYRAMID_BOXES
from support.filled import random_map

FLOAT32 = 1e-5
"""Means of values near one, each of up to 100 samples, summed in another order; a sample's position
is known to a few 1e-6 of a pixel."""


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.roi_align")


@pytest.mark.slow
@pytest.mark.parametrize("side", [7, 14])
def test_boxes_at_every_edge_are_the_plain_paths(
    kernel: Any, kernel_device: str, side: int
) -> None:
    features = random_map(5, 11, 13, dtype=torch.float32)
    boxes = torch.tensor(list(EDGE_BOXES.values()))
    pooled = _pooled(kernel, [features], boxes, side, kernel_device)
    assert pooled.shape == (len(boxes), 5, side, side)
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    _assert_plain(pooled, [features], boxes, side)


@pytest.mark.parametrize("height", [1, 2, 9])
@pytest.mark.parametrize("width", [1, 3, 17])
def test_maps_of_any_size_are_the_plain_paths(
    kernel: Any, kernel_device: str, height: int, width: int
) -> None:
    features = random_map(2, height, width, dtype=torch.float32)
    boxes = torch.tensor([[-3.0, -1.0, 9.0, 7.0], [1.0, 1.0, 70.0, 2.0]])
    _assert_plain(_pooled(kernel, [features], boxes, 3, kernel_device), [features], boxes, 3)


@pytest.mark.slow
def test_boxes_are_taken_from_the_level_that_suits_their_size(
    kernel: Any, kernel_device: str
) -> None:
    boxes, pyramid = PYRAMID_BOXES.float()[::4], [level.float() for level in PYRAMID]
    assert len(PyramidPixels.of(pyramid).level_of(boxes).unique()) == 4
    _assert_plain(_pooled(kernel, pyramid, boxes, 7, kernel_device), pyramid, boxes, 7)


@pytest.mark.slow
@pytest.mark.parametrize("doubling", [112.0, 224.0, 448.0])
def test_levels_change_at_the_plain_paths_side(
    kernel: Any, kernel_device: str, doubling: float
) -> None:
    # Each level has a value of its own all over.
    pyramid = [torch.full((1, 128 >> i, 128 >> i), float(i)) for i in range(4)]
    sides = doubling * (1 + torch.tensor([-10, -8, -6, -4, -3, -2, 0, 2]) * 2.0**-24)
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    levels = _pooled(kernel, pyramid, boxes, 7, kernel_device)[:, 0, 3, 3].round().long()
    assert len(levels.unique()) == 2
    assert torch.equal(levels, PyramidPixels.of(pyramid).level_of(boxes))


@pytest.mark.parametrize("channels", [1, 48, 300])
def test_channels_may_be_any_number(kernel: Any, kernel_device: str, channels: int) -> None:
    features = random_map(channels, 6, 7, dtype=torch.float32)
    boxes = torch.tensor([[1.5, 2.0, 20.25, 15.0], [0.0, 0.0, 28.0, 24.0]])
    _assert_plain(_pooled(kernel, [features], boxes, 3, kernel_device), [features], boxes, 3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_short_maps_are_averaged_in_float32(
    kernel: Any, kernel_device: str, dtype: torch.dtype
) -> None:
    features = random_map(8, 20, 25, dtype=torch.float32).to(dtype)
    boxes = torch.tensor([[3.25, 5.75, 78.75, 70.0], [-9.0, 7.75, 60.0, 31.75]])
    pooled = _pooled(kernel, [features], boxes, 7, kernel_device)
    assert pooled.dtype == dtype
    exact = roi_align(PyramidPixels.of([features.double()]), boxes.double(), 7)
    # A GPU rounds, the interpreter cuts bfloat16 off.
    rounding = torch.finfo(dtype).eps * exact.abs() + FLOAT32
    assert ((pooled.double() - exact).abs() <= rounding).all()


@pytest.mark.slow
def test_maps_may_be_of_either_layout_and_slices_of_a_batch(
    kernel: Any, kernel_device: str
) -> None:
    batch = random_map(2, 8, 11, 13, dtype=torch.float32)
    boxes = torch.tensor(list(EDGE_BOXES.values()))[:6]
    dense = _pooled(kernel, [batch[1].clone()], boxes, 3, kernel_device)
    for layout in (torch.channels_last, torch.contiguous_format):
        features = batch.contiguous(memory_format=layout)[1]
        assert torch.equal(_pooled(kernel, [features], boxes, 3, kernel_device), dense)


def test_no_boxes_give_no_features(kernel: Any, kernel_device: str) -> None:
    features = random_map(3, 5, 5, dtype=torch.float32)
    assert _pooled(kernel, [features], torch.zeros(0, 4), 7, kernel_device).shape == (0, 3, 7, 7)


def test_a_box_of_nan_harms_no_other(kernel: Any, kernel_device: str) -> None:
    features = random_map(2, 11, 13, dtype=torch.float32)
    boxes = torch.tensor([[torch.nan] * 4, EDGE_BOXES["inside"]])
    pooled = _pooled(kernel, [features], boxes, 7, kernel_device)
    _assert_plain(pooled[1:], [features], boxes[1:], 7)


def test_a_nan_in_the_map_shows(kernel: Any, kernel_device: str) -> None:
    features = random_map(2, 11, 13, dtype=torch.float32)
    features[0, 5, 5] = torch.nan
    boxes = torch.tensor([EDGE_BOXES["of the whole map"]])
    pooled = _pooled(kernel, [features], boxes, 7, kernel_device)
    assert pooled[0, 0].isnan().any()
    assert pooled[0, 1].isfinite().all()


def test_levels_that_do_not_belong_together_are_refused(kernel: Any, kernel_device: str) -> None:
    features = random_map(3, 5, 5, dtype=torch.float32)
    for levels in ([features] * 5, [features, features[:2]], [features, features.half()]):
        with pytest.raises(ValueError, match="no 1 to 4 levels of one pyramid"):
            _pooled(kernel, levels, torch.zeros(1, 4), 7, kernel_device)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    levels = [random_map(3, 5, 5, dtype=torch.float32).to(kernel_device)]
    arguments = (levels, torch.tensor([[1.0, 2.0, 9.0, 8.0]], device=kernel_device), 2, 4, 56)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    torch.library.opcheck(kernel.roi_align_triton, arguments, test_utils=checks)


def _pooled(kernel: Any, levels: Sequence[Tensor], boxes: Tensor, side: int, device: str) -> Tensor:
    on_device = [level.to(device) for level in levels]
    pooled: Tensor = kernel.roi_align_triton(
        on_device, boxes.to(device), side, STRIDES[0], FINEST_SIDE_PIXELS
    )
    return pooled.cpu()


def _assert_plain(pooled: Tensor, levels: Sequence[Tensor], boxes: Tensor, side: int) -> None:
    exact = roi_align(PyramidPixels.of([level.double() for level in levels]), boxes.double(), side)
    assert_close(pooled.double(), exact, rtol=0, atol=FLOAT32)
