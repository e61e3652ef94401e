# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""Large-kernel depthwise convolution as one GPU kernel, for maps in channels_last.

A program owns a tile of pixels and a block of channels of one image. It holds the sums of two
neighbouring rows at once: a pixel that it loads lies under tap row y of the upper output row and
tap row y - 1 of the lower one, so it is loaded and widened to float32 once for two multiply-adds.
Weights come as float32, which saves widening them. Nothing is staged in shared memory: a tile and
its margin are a few kilobytes, which the first-level cache keeps.

Bytes and operations of one layer and image, T at 224x224, bfloat16:

    map and kernel            memory     multiply-adds   at the memory's, at the units' peak (H200)
    56x56,  64 channels, 17   0.80 MB    58.0 M          0.17 us | 1.7 us
    28x28, 128 channels, 15   0.40 MB    22.6 M          0.08 us | 0.7 us
    14x14, 256 channels, 13   0.20 MB     8.5 M          0.04 us | 0.3 us
    7x7,   512 channels,  7   0.10 MB     1.2 M          0.02 us | 0.04 us

So it is bound by float32 multiply-adds (33.5 T a second), not by memory: depthwise sums have no
common factor for a matrix unit. Of the inner loop's instructions 37 to 42 % are multiply-adds (in
the machine code for sm_90 that ``test_triton_compiles`` makes), and one row of taps in K + 1 is
zero, so that about a third of the peak is to be expected.

The sums for squeeze-excite are one partial sum a tile, added up afterwards in a fixed order: with
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


class Tile(NamedTuple):
    """What one program computes: every thread of it holds two rows of 16 or 32 values.

    Attributes:
        row_pairs: pairs of output rows.
        columns: output columns.
        channels: channels; divides ``CHANNEL_MULTIPLE``.
        warps: warps of 32 threads.
    """

    row_pairs: int
    columns: int
    channels: int
    warps: int


TILES = {
    "small": Tile(row_pairs=4, columns=8, channels=16, warps=1),
    "large": Tile(row_pairs=8, columns=8, channels=32, warps=4),
    "wide": Tile(row_pairs=8, columns=8, channels=32, warps=2),
}
"""What is worth measuring on a device: small tiles leave no multiprocessor idle when maps are few,
large ones read their margins less often, and a thread of a wide one holds twice as much: of its
instructions 42 % are multiply-adds, not 37 % (counted in the machine code for sm_90), while half
as many threads hide each other's waiting."""


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
    # Of its arguments Triton notices only divisibility by 16: 56 channels would be loaded one by
    # one. Both sides are equal; the right one shows the compiler that vectors do not straddle.
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
        with_sums: whether the partial sums are wanted.
        tile_name: a key of ``TILES``.

    Returns:
        (B, C, H, W) in channels_last, and each tile's sums of the channels over its pixels,
        (B, tiles, C) float32; no tile if they are not wanted.
    """
    batch, channels, height, width = features.shape
    tile = TILES[tile_name]
    tiles = triton.cdiv(height, 2 * tile.row_pairs) * triton.cdiv(width, tile.columns)
    result = torch.empty_like(features, memory_format=torch.channels_last)
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
