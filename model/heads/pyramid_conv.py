"""The 3x3 convolution over all levels of a pyramid at once.

The trained form resizes the coarser levels to the finest one's size, concatenates them and
convolves: two thirds of a segmenter's multiply-adds. Resizing commutes with operations on channels
alone, and a 3x3 convolution is a sum of nine of these, each shifted by a pixel. So for inference a
coarse level is multiplied by the nine matrices at its own size, where it has a 4th, 16th or 64th of
the pixels, and the products are resized and shifted, both by one small matrix an axis. Exact up to
rounding. At strides 4 to 32 that leaves three eighths of the multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.layers import like_convolution, norm_as_affine
from model.heads.resizing import resizing

SHIFTS = 3
"""Rows and columns of the kernel."""


class PyramidConv(nn.Module):
    """Resize every level to the first one's size, concatenate, convolve, normalise.

    Args:
        levels: number of levels.
        channels: of each level, and of the result.
    """

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(levels * channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Take the levels, the finest first, (B, C, H_i, W_i), to (B, C, H, W)."""
        size = levels[0].shape[2:]
        resized = [F.interpolate(level, size=size, mode="bilinear") for level in levels[1:]]
        joint = torch.cat([levels[0], *resized], dim=1)
        return cast("Tensor", self.norm(self.conv(joint)))

    def folded(self) -> FoldedPyramidConv:
        """Return the inference form, which needs fewer multiply-adds."""
        return FoldedPyramidConv(self)


class FoldedPyramidConv(nn.Module):
    """A ``PyramidConv`` for inference."""

    coarser: Tensor

    def __init__(self, trained: PyramidConv) -> None:
        super().__init__()
        dtype, channels = trained.conv.weight.dtype, trained.conv.out_channels
        scale, shift = norm_as_affine(trained.norm)
        weight = trained.conv.weight.detach().double() * scale.view(-1, 1, 1, 1)
        finest, *coarser = weight.split(channels, dim=1)
        geometry = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        self.finest = like_convolution(geometry, finest, shift)
        # (levels, C_out, C_in, row, column) -> (levels * row * column, C_in, C_out); three axes,
        # so that a change of the memory format does not reorder the matrices.
        matrices = torch.stack(coarser).permute(0, 3, 4, 2, 1).flatten(0, 2)
        self.register_buffer("coarser", matrices.to(dtype).contiguous())
        self.train(trained.training)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Take the levels, the finest first, (B, C, H_i, W_i), to (B, C, H, W)."""
        finest, *coarser = levels
        total = cast("Tensor", self.finest(finest))
        total = total.permute(0, 2, 3, 1).contiguous()  # (B, C, H, W) -> (B, H, W, C)
        for level, taps in zip(coarser, self.coarser.split(SHIFTS**2), strict=True):
            _add_convolved(total, level, taps)
        return total.permute(0, 3, 1, 2)


def _add_convolved(total: Tensor, level: Tensor, taps: Tensor) -> None:
    """Add a level's part: taps (9, C, C) on (B, C, h, w), resized, to (B, H, W, C)."""
    batch, height, width, channels = total.shape
    rows = shifted_resizing(level.shape[2], height, total.device, total.dtype)
    columns = shifted_resizing(level.shape[3], width, total.device, total.dtype)
    pixels = level.permute(0, 2, 3, 1).flatten(0, 1).contiguous()  # (B * h, w, C)
    flat = total.view(batch, height, width * channels)
    for row, taps_of_row in zip(rows, taps.split(SHIFTS), strict=True):
        # Along the rows first: (W, w) @ (B * h, w, C) -> (B * h, W, C).
        wide = columns[0] @ (pixels @ taps_of_row[0])
        for column, tap in zip(columns[1:], taps_of_row[1:], strict=True):
            wide += column @ (pixels @ tap)
        # Then down the columns: (H, h) @ (B, h, W * C) -> (B, H, W * C).
        tall = wide.view(batch, level.shape[2], width * channels)
        flat.baddbmm_(row.expand(batch, -1, -1), tall)


def shifted_resizing(start: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrices that resize and then shift by -1, 0 and 1, (3, size, start).

    Row p of the matrix for tap t is pixel p + t - 1 of the resized line, zero beyond its ends: the
    input of tap t of a convolution with padding 1. Computed in float64.
    """
    if torch.compiler.is_compiling():
        # Becomes part of the graph. The compiler warns of caches, which it does not use.
        return _shifted_resizing(start, size, device).to(dtype)
    return _cached_resizing(start, size, device, dtype)


@lru_cache(maxsize=256)
def _cached_resizing(start: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Cached for later calls, which may run outside inference mode.
    with torch.inference_mode(mode=False):
        return _shifted_resizing(start, size, device).to(dtype)


def _shifted_resizing(start: int, size: int, device: torch.device) -> Tensor:
    matrix = resizing(start, size, torch.float64, device)
    padded = F.pad(matrix, (0, 0, 1, 1))
    return torch.stack([padded[tap : tap + size] for tap in range(SHIFTS)])
