"""RoIAlign: resample the part of the pyramid under a box to a fixed size.

A bin is the mean over a regular grid of bilinear samples, about one per pixel of the map. Mean and
samples are separable, so a region of interest (RoI) is row weights @ crop @ column weights^T, with
no tensor of samples.

Source: Mask R-CNN (arXiv:1703.06870) as mmdetection 2.28 and mmcv 1.7 compute it
(``SingleRoIExtractor``; ``roi_align``: aligned, average, ``sampling_ratio=0``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.heads.boxes import at_least_float32, box_areas
from model.heads.fpn import STRIDES

LEVELS = 4
"""Number of pyramid levels that RoIs are assigned to, the finest."""

FINEST_SIDE_PIXELS = 56
"""RoIs move to the next level at each doubling of this side (root of the area)."""

CHUNK_ELEMENTS = 2**24
"""Elements of crops that are gathered at a time, 64 MiB; at least one RoI's."""

SIDE_STEP = 8
"""Crop sides are rounded up to a multiple of this, so that more crops share a shape and a batch."""


@dataclass(frozen=True)
class PyramidPixels:
    """One image's pyramid as one table with a row per pixel of any level.

    Attributes:
        pixels: channels of every pixel, by level, row, column, (L, C).
        first_pixels: index in ``pixels`` of each level's first pixel, (levels,) int64.
        heights: of the levels, (levels,) int64.
        widths: of the levels, (levels,) int64.
        strides: input pixels per pixel of the level, (levels,) int64.
    """

    pixels: Tensor
    first_pixels: Tensor
    heights: Tensor
    widths: Tensor
    strides: Tensor

    @staticmethod
    def of(pyramid: Sequence[Tensor]) -> PyramidPixels:
        """Collect the pixels of the levels (C, H_i, W_i), strides as ``STRIDES``."""
        levels = pyramid[:LEVELS]
        # (C, H, W) -> (H * W, C)
        pixels = torch.cat([level.flatten(1).transpose(0, 1) for level in levels])
        heights, widths, strides = torch.tensor(
            [[*level.shape[1:], stride] for level, stride in zip(levels, STRIDES, strict=False)],
            device=pixels.device,
        ).unbind(dim=1)
        areas = heights * widths
        return PyramidPixels(pixels, areas.cumsum(0) - areas, heights, widths, strides)

    def level_of(self, boxes: Tensor) -> Tensor:
        """Choose the level that suits each box's size, (N, 4) -> (N,) int64."""
        octaves = torch.log2(box_areas(boxes).sqrt() / FINEST_SIDE_PIXELS + 1e-6).floor()
        return octaves.long().clamp(0, len(self.strides) - 1)


def roi_align(pyramid: PyramidPixels, boxes: Tensor, output_side: int) -> Tensor:
    """Resample each box's features from the level that suits its size.

    Args:
        pyramid: of one image.
        boxes: (N, 4) in pixels of the network's input; a sample more than one pixel of the level
            outside its pixel centres is zero, a nearer one is clamped to them.
        output_side: rows and columns of the result.

    Returns:
        (N, C, output_side, output_side) in the pyramid's dtype, channels last in memory.
    """
    channels = pyramid.pixels.shape[1]
    level = pyramid.level_of(boxes)
    # Pixel centres are at integer coordinates, hence the half.
    corners = boxes / pyramid.strides[level].unsqueeze(1) - 0.5
    rows = _spans(corners[:, 1], corners[:, 3], pyramid.heights[level], output_side)
    columns = _spans(corners[:, 0], corners[:, 2], pyramid.widths[level], output_side)

    pooled = pyramid.pixels.new_empty(len(boxes), output_side, output_side, channels)
    for chunk in _chunks(rows, columns, channels, output_side):
        row_cells, row_weights = _weights(rows, chunk.members, chunk.rows, output_side)
        column_cells, column_weights = _weights(columns, chunk.members, chunk.columns, output_side)
        level_widths = columns.map_sides[chunk.members].view(-1, 1, 1)
        places = row_cells.unsqueeze(2) * level_widths + column_cells.unsqueeze(1)
        places = places + pyramid.first_pixels[level[chunk.members]].view(-1, 1, 1)
        # (n, h, w) -> (n, h, w * C)
        crops = at_least_float32(pyramid.pixels.index_select(0, places.flatten()))
        crops = crops.view(len(places), chunk.rows.crop_side, -1)
        # (n, P, h) @ (n, h, w * C) -> (n, P, w * C) -> (n, P, w, C)
        strips = torch.bmm(row_weights.to(crops.dtype), crops).unflatten(2, (-1, channels))
        # (n, 1, P, w) @ (n, P, w, C) -> (n, P, P, C)
        bins = torch.matmul(column_weights.to(crops.dtype).unsqueeze(1), strips)
        pooled[chunk.members] = bins.to(pooled.dtype)
    return pooled.permute(0, 3, 1, 2)  # (N, h, w, C) -> (N, C, h, w)


@dataclass(frozen=True)
class _Spans:
    """RoIs along one axis of their maps, in pixels of the map.

    Attributes:
        starts: (N,).
        bin_sides: length of a bin, (N,).
        samples: samples in a bin, (N,) int64.
        first_cells: the first pixel that a sample interpolates, (N,) int64.
        crop_sides: pixels from there that cover every interpolated one, (N,) int64.
        map_sides: pixels of the map, (N,) int64.
    """

    starts: Tensor
    bin_sides: Tensor
    samples: Tensor
    first_cells: Tensor
    crop_sides: Tensor
    map_sides: Tensor


def _spans(starts: Tensor, ends: Tensor, map_sides: Tensor, bins: int) -> _Spans:
    # Clamped as integers: a NaN becomes an arbitrary integer, which still has to be a valid index.
    first_cells = torch.minimum(starts, map_sides - 1).floor().long().clamp(min=0)
    last_cells = torch.minimum(ends, map_sides - 1).ceil().long().clamp(min=0)
    touched = (last_cells - first_cells + 1).clamp(min=1)
    bin_sides = (ends - starts) / bins
    return _Spans(
        starts=starts,
        bin_sides=bin_sides,
        samples=bin_sides.ceil().long().clamp(min=0),
        first_cells=first_cells,
        crop_sides=(touched + SIDE_STEP - 1) // SIDE_STEP * SIDE_STEP,
        map_sides=map_sides,
    )


@dataclass(frozen=True)
class _Axis:
    """A chunk's crop side and its largest number of samples in a bin, along one axis."""

    crop_side: int
    most_samples: int


@dataclass(frozen=True)
class _Chunk:
    members: Tensor
    rows: _Axis
    columns: _Axis


def _chunks(rows: _Spans, columns: _Spans, channels: int, bins: int) -> Iterator[_Chunk]:
    """Group the RoIs by the shape of their crops, in chunks of bounded memory."""
    # One copy to the host, where the loop below runs.
    plan = torch.stack(
        [rows.crop_sides, columns.crop_sides, rows.samples, columns.samples], dim=1
    ).cpu()
    shapes, shape_of = torch.unique(plan[:, :2], dim=0, return_inverse=True)
    for index, (height, width) in enumerate(shapes.tolist()):
        members = (shape_of == index).nonzero().squeeze(1)
        row_samples, column_samples = plan[members, 2:].amax(dim=0).tolist()
        elements = max(
            height * width * channels, bins * (height * row_samples + width * column_samples)
        )
        for part in members.split(max(1, CHUNK_ELEMENTS // elements)):
            yield _Chunk(
                part.to(rows.starts.device),
                _Axis(height, row_samples),
                _Axis(width, column_samples),
            )


def _weights(spans: _Spans, members: Tensor, axis: _Axis, bins: int) -> tuple[Tensor, Tensor]:
    """Compute the weights of the crops' pixels in the bins along one axis.

    Returns:
        Indices of the crops' pixels, (n, side) int64, and their weights, (n, bins, side).
    """
    device = members.device
    bin_sides = spans.bin_sides[members].view(-1, 1, 1)
    samples = spans.samples[members].view(-1, 1, 1)
    bin_index = torch.arange(bins, device=device).view(-1, 1)
    sample = torch.arange(axis.most_samples, device=device)
    bin_starts = spans.starts[members].view(-1, 1, 1) + bin_index * bin_sides
    offsets = (sample + 0.5) * bin_sides / samples.clamp(min=1)
    positions = bin_starts + offsets  # (n, bins, samples)
    map_sides = spans.map_sides[members].view(-1, 1, 1)
    counted = (sample < samples) & (positions >= -1) & (positions <= map_sides)
    positions = torch.minimum(positions.clamp(min=0), map_sides - 1)

    cells = spans.first_cells[members].unsqueeze(1) + torch.arange(axis.crop_side, device=device)
    distances = (positions.unsqueeze(3) - cells.view(-1, 1, 1, axis.crop_side)).abs()
    shares = (1 - distances).clamp(min=0) * counted.unsqueeze(3)
    weights = shares.sum(dim=2) / samples.clamp(min=1)
    # A crop that extends beyond the map repeats its last pixel there, with weight zero.
    return torch.minimum(cells, map_sides.squeeze(2) - 1), weights
