"""RoIAlign against its definition, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.heads import roi_align as roi_align_module
from model.heads.roi_align import PyramidPixels, roi_align
from support.box_problems import EDGE_BOXES, PYRAMID, PYRAMID_BOXES, ROI_ALIGN_PROBLEMS, STRIDE
from support.filled import random_map


@pytest.mark.parametrize("side", [7, 2])
@pytest.mark.parametrize("name", EDGE_BOXES)
def test_bins_are_the_definition(name: str, side: int) -> None:
    features = random_map(2, 11, 13)
    box = torch.tensor([EDGE_BOXES[name]], dtype=torch.float64)
    _assert_exact(_pooled(features, box, side)[0], _by_samples(features, box[0], side))


@pytest.mark.parametrize("height", [1, 2, 9])
@pytest.mark.parametrize("width", [1, 3, 17])
def test_maps_of_any_size_are_the_definition(height: int, width: int) -> None:
    features = random_map(2, height, width)
    boxes = torch.tensor([[-3.0, -1.0, 9.0, 7.0], [1.0, 1.0, 70.0, 2.0]], dtype=torch.float64)
    pooled = _pooled(features, boxes, 3)
    for box, bins in zip(boxes, pooled, strict=True):
        _assert_exact(bins, _by_samples(features, box, 3))


@pytest.mark.parametrize("chunk_elements", [1, 1000])
def test_boxes_together_give_what_each_gives_alone(
    monkeypatch: pytest.MonkeyPatch, chunk_elements: int
) -> None:
    features = random_map(3, 11, 13)
    boxes = torch.tensor(list(EDGE_BOXES.values()), dtype=torch.float64)
    together = _pooled(features, boxes, 7)
    for box, bins in zip(boxes, together, strict=True):
        _assert_exact(_pooled(features, box[None], 7)[0], bins)
    monkeypatch.setattr(roi_align_module, "CHUNK_ELEMENTS", chunk_elements)
    _assert_exact(_pooled(features, boxes, 7), together)


def test_no_boxes_give_no_features() -> None:
    assert _pooled(random_map(3, 5, 5), torch.zeros(0, 4), 7).shape == (0, 3, 7, 7)


def test_a_box_of_nan_harms_no_other() -> None:
    features = random_map(2, 11, 13)
    boxes = torch.tensor([[torch.nan] * 4, EDGE_BOXES["inside"]], dtype=torch.float64)
    _assert_exact(_pooled(features, boxes, 7)[1], _by_samples(features, boxes[1], 7))


def test_result_and_map_may_be_channels_last() -> None:
    features = random_map(1, 8, 11, 13)
    boxes = torch.tensor(list(EDGE_BOXES.values()), dtype=torch.float64)
    channels_last = features.contiguous(memory_format=torch.channels_last)
    pooled = _pooled(channels_last[0], boxes, 7)
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    _assert_exact(pooled, _pooled(features[0], boxes, 7))


def test_bfloat16_maps_are_averaged_in_float32() -> None:
    features = random_map(4, 40, 50, dtype=torch.bfloat16)
    boxes = torch.tensor([[3.3, 5.7, 188.9, 150.1], [-9.1, 7.7, 60.1, 31.7]])
    pooled = _pooled(features, boxes, 7)
    assert pooled.dtype == torch.bfloat16
    exact = _pooled(features.float(), boxes, 7)
    assert torch.equal(pooled, exact.bfloat16())


@pytest.mark.parametrize(
    ("side", "level"),
    [(0.0, 0), (10.0, 0), (111.9, 0), (112.0, 1), (223.9, 1), (224.0, 2), (448.0, 3), (1600.0, 3)],
)
def test_a_box_is_taken_from_the_level_that_suits_its_size(side: float, level: int) -> None:
    # Every level has a value of its own all over, and the fifth is for no box.
    pyramid = [torch.full((1, 64 >> i, 64 >> i), float(i + 1)) for i in range(5)]
    half = side / 2
    boxes = torch.tensor([[128 - half, 128 - half, 128 + half, 128 + half]])
    pooled = roi_align(PyramidPixels.of(pyramid), boxes, 7)
    assert pooled.shape == (1, 1, 7, 7)
    want = level + 1.0 if side else 0.0  # a point has no samples
    assert pooled[0, 0, 3, 3].item() == pytest.approx(want, rel=1e-6)


def test_boxes_of_several_levels_keep_their_order() -> None:
    pyramid = [random_map(3, 64 >> i, 64 >> i) for i in range(4)]
    sides = torch.tensor([200.0, 20.0, 130.0, 256.0, 30.0, 240.0], dtype=torch.float64)
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    pooled = roi_align(PyramidPixels.of(pyramid), boxes, 7)
    for index, level in enumerate((1, 0, 1, 2, 0, 2)):
        want = _by_samples(pyramid[level], boxes[index], 7, stride=4 << level)
        _assert_exact(pooled[index], want)


@pytest.mark.parametrize("name", ROI_ALIGN_PROBLEMS)
def test_result_is_torchvisions(torchvisions: Mapping[str, Tensor], name: str) -> None:
    problem = ROI_ALIGN_PROBLEMS[name]
    # torchvision's first form takes pixels at whole coordinates of the box, half a pixel on.
    boxes = problem.boxes if problem.aligned else problem.boxes + STRIDE / 2
    pooled = _pooled(problem.features, boxes, problem.output_side)
    # Means of values near one, each of up to 100 samples, summed in another order.
    tolerance = 1e-5 if pooled.dtype == torch.float32 else 1e-12
    assert_close(pooled, torchvisions[f"roi_align/{name}"], rtol=0, atol=tolerance)


def test_result_of_a_pyramid_is_torchvisions(torchvisions: Mapping[str, Tensor]) -> None:
    pyramid = PyramidPixels.of(PYRAMID)
    assert torch.equal(pyramid.level_of(PYRAMID_BOXES), torchvisions["level_of"])
    pooled = roi_align(pyramid, PYRAMID_BOXES, 3)
    _assert_exact(pooled, torchvisions["roi_align of a pyramid"])


def _assert_exact(got: Tensor, want: Tensor) -> None:
    assert_close(got, want, rtol=0, atol=1e-12)  # float64, means of values near one


def _pooled(features: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Resample a pyramid of one level."""
    return roi_align(PyramidPixels.of([features]), boxes, bins)


def _by_samples(features: Tensor, box: Tensor, bins: int, stride: int = STRIDE) -> Tensor:
    """The mean of each bin's grid of bilinear samples, (C, bins, bins)."""
    left, top, right, bottom = (box / stride - 0.5).tolist()
    bin_height, bin_width = (bottom - top) / bins, (right - left) / bins
    grid_rows, grid_columns = math.ceil(bin_height), math.ceil(bin_width)
    pooled = torch.zeros(features.shape[0], bins, bins, dtype=features.dtype)
    for row in range(bins):
        for column in range(bins):
            for sample_row in range(grid_rows):
                for sample_column in range(grid_columns):
                    y = top + bin_height * (row + (sample_row + 0.5) / grid_rows)
                    x = left + bin_width * (column + (sample_column + 0.5) / grid_columns)
                    pooled[:, row, column] += _bilinear(features, y, x)
    pooled /= max(grid_rows * grid_columns, 1)
    return pooled


def _bilinear(features: Tensor, y: float, x: float) -> Tensor:
    _, height, width = features.shape
    value = torch.zeros_like(features[:, 0, 0])
    if y < -1 or y > height or x < -1 or x > width:
        return value
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    value += features[:, top, left] * (1 - down) * (1 - across)
    value += features[:, top, right] * (1 - down) * across
    value += features[:, bottom, left] * down * (1 - across)
    value += features[:, bottom, right] * down * across
    return value
