# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""Large-kernel depthwise convolution by float32 multiply-adds, for maps in channels_last.

A program owns a tile of pixels and a block of channels of one image. It holds the sums of two
neighbouring rows at once: a pixel that it loads lies under tap row y of the upper output row and
tap row y - 1 of the lower one, so it is loaded once for two multiply-adds. Nothing is staged in
shared memory: a tile and its margin are a few kilobytes, which the first-level cache keeps.

It is bound by float32 multiply-adds. 16-bit maps go through the matrix units instead
(``model.kernels.gpu.depthwise_16bit``). Counts: docs/kernels.md.

For squeeze-excite it writes one partial sum a tile, added up afterwards in a fixed order: with
atomics the order, and so the rounding, would change from run to run.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.support import empty_result


class Tile(NamedTuple):
    """The work of one program; each of its threads holds two rows of 16 values.

    Attributes:
        row_pairs: pairs of output rows.
        columns: output columns.
        channels: number of channels; divides ``CHANNEL_MULTIPLE``.
        warps: warps of 32 threads.
    """

    row_pairs: int
    columns: int
    channels: int
    warps: int


TILES = {
    "small": Tile(row_pairs=4, columns=8, channels=16, warps=1),
    "large": Tile(row_pairs=8, columns=8, channels=32, warps=4),
}
"""Candidates to measure: small tiles leave no multiprocessor idle when maps are few, large ones
read their margins less often."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _large_depthwise_kernel(  # type: ignore[no-untyped-def]
    features,
    features_b,
    features_h,
    features_w,
    taps,
    taps_w,
    bias,
    result,
    partial_sums,
    channels,
    height,
    width,
    KERNEL: tl.constexpr,
    ROW_PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ALIGNED: tl.constexpr,
    WITH_SUMS: tl.constexpr,
):
    """Convolve one tile. Axes: tile; block of channels; image. The channel stride is one."""
    # Triton specialises on divisibility by 16 alone: 56 channels would be loaded one by one. These
    # assignments change no value; they show the compiler that vectors do not straddle.
    channels = channels // ALIGNED * ALIGNED
    features_b = features_b // ALIGNED * ALIGNED
    features_h = features_h // ALIGNED * ALIGNED
    features_w = features_w // ALIGNED * ALIGNED
    column_tiles = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0)
    image = tl.program_id(2).to(tl.int64)  # a batch may hold more than 2^31 numbers
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    pixel = tl.arange(0, ROW_PAIRS * COLUMNS)
    row = (tile // column_tiles * ROW_PAIRS + pixel // COLUMNS) * 2  # the pair's upper row
    column = tile % column_tiles * COLUMNS + pixel % COLUMNS
    is_channel = channel[None, :] < channels

    # The first pixel that the upper row's window covers, and the tap that lies on it.
    first_row, first_column = row - KERNEL // 2, column - KERNEL // 2
    features += image * features_b
    features += (first_row * features_h + first_column * features_w)[:, None] + channel[None, :]
    row_of_taps = taps_w * KERNEL
    taps += row_of_taps + channel[None, :]  # behind the row of zeros

    upper = tl.zeros([ROW_PAIRS * COLUMNS, CHANNELS], tl.float32)
    lower = tl.zeros([ROW_PAIRS * COLUMNS, CHANNELS], tl.float32)
    for y in range(KERNEL + 1):
        row_inside = (first_row + y >= 0) & (first_row + y < height)
        for x in tl.range(0, KERNEL, loop_unroll_factor=2):
            inside = row_inside & (first_column + x >= 0) & (first_column + x < width)
            values = tl.load(
                features + y * features_h + x * features_w,
                mask=inside[:, None] & is_channel,
                other=0.0,
            ).to(tl.float32)
            tap = taps + y * row_of_taps + x * taps_w
            upper += values * tl.load(tap)
            lower += values * tl.load(tap - row_of_taps)

    added = tl.load(bias + channel[None, :], mask=is_channel, other=0.0).to(tl.float32)
    upper = (upper + added).to(result.dtype.element_ty)
    lower = (lower + added).to(result.dtype.element_ty)
    is_upper = ((row < height) & (column < width))[:, None] & is_channel
    is_lower = ((row + 1 < height) & (column < width))[:, None] & is_channel
    # The result is dense, the channels side by side.
    result += ((image * height + row) * width + column)[:, None] * channels + channel[None, :]
    tl.store(result, upper, mask=is_upper)
    tl.store(result + width * channels, lower, mask=is_lower)
    if WITH_SUMS:
        stored = tl.where(is_upper, upper.to(tl.float32), 0.0)
        stored += tl.where(is_lower, lower.to(tl.float32), 0.0)
        partial_sums += (image * tl.num_programs(0) + tile) * channels
        tl.store(partial_sums + channel, tl.sum(stored, axis=0), mask=channel < channels)


@triton_op("overlock::large_depthwise", mutates_args=())
def large_depthwise_triton(
    features: Tensor, taps: Tensor, bias: Tensor, with_sums: bool, tile_name: str
) -> tuple[Tensor, Tensor]:
    """Convolve; see ``model.kernels.large_depthwise``, which has checked the shapes.

    Args:
        features: (B, C, H, W) in channels_last.
        taps: ``tap_major`` of the weight.
        bias: (C,).
        with_sums: whether to compute partial sums.
        tile_name: a key of ``TILES``.

    Returns:
        (B, C, H, W) in channels_last, and each tile's channel sums over its pixels,
        (B, tiles, C) float32, or (B, 0, C) without ``with_sums``.
    """
    batch, channels, height, width = features.shape
    tile = TILES[tile_name]
    tiles = triton.cdiv(height, 2 * tile.row_pairs) * triton.cdiv(width, tile.columns)
    result = empty_result(features, torch.channels_last)
    partial_sums = torch.empty(
        (batch, tiles if with_sums else 0, channels), dtype=torch.float32, device=features.device
    )
    wrap_triton(_large_depthwise_kernel)[(tiles, triton.cdiv(channels, tile.channels), batch)](
        features,
        features.stride(0),
        features.stride(2),
        features.stride(3),
        taps,
        taps.shape[2],
        bias,
        result,
        partial_sums,
        channels,
        height,
        width,
        KERNEL=taps.shape[1],
        ROW_PAIRS=tile.row_pairs,
        COLUMNS=tile.columns,
        CHANNELS=tile.channels,
        ALIGNED=math.gcd(16, channels, features.stride(0), features.stride(2), features.stride(3)),
        WITH_SUMS=with_sums,
        num_warps=tile.warps,
    )
    return result, partial_sums
