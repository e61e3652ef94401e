# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""Large-kernel depthwise convolution on the matrix units, for 16-bit maps in channels_last.

A depthwise convolution is no matrix product, but one row of taps slid along 16 output columns is a
Toeplitz matrix, and every strip of the map, in every image, is multiplied with the same one:

    strips (S, 32 input columns) . Toeplitz of tap row (32, 16 output columns)    for each channel

Two or four output rows are computed at once: an input row lies under tap row y of the first and
y - 1 of the second, so their matrices side by side are neighbouring rows of ``tap_table``. A
program owns S strips and a block of channels, and loops over the input rows.

What bounds the kernel is loading its operands, not multiplying them. Counts and measurements:
docs/kernels.md.

For squeeze-excite it writes one partial sum a strip, added up afterwards in a fixed order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.depthwise_layout import MAX_STRIP_ROWS, STRIP_COLUMNS
from model.kernels.gpu.support import empty_result


class Tile(NamedTuple):
    """The work of one program.

    Attributes:
        rows: output rows of a strip, at most ``MAX_STRIP_ROWS``.
        strips: number of strips, at least the 16 rows of a matrix unit.
        channels: number of channels; divides ``CHANNEL_MULTIPLE``.
        warps: warps of 32 threads.
    """

    rows: int
    strips: int
    channels: int
    warps: int


TILES = {
    "few": Tile(rows=2, strips=16, channels=8, warps=4),
    "many": Tile(rows=4, strips=32, channels=8, warps=8),
}
"""Candidates to measure: small programs keep a device busy with one image, large ones load less
for each product."""


class StripLaunch(NamedTuple):
    """What a launch over strips of a map needs.

    Attributes:
        arguments: result, partial sums, and sizes, as the kernels take them after their weights.
        blocks: number of blocks of strips.
        aligned: a divisor of the number of channels and of the map's strides, at most 16.
    """

    arguments: tuple[Tensor, Tensor, int, int, int, int, int, int]
    blocks: int
    aligned: int

    @property
    def results(self) -> tuple[Tensor, Tensor]:
        """Return what the kernel writes: the convolved map and its partial sums."""
        return self.arguments[:2]


def strip_launch(features: Tensor, rows: int, strips: int, *, with_sums: bool) -> StripLaunch:
    """Prepare a launch over the strips of a map, (B, C, H, W) in channels_last.

    Args:
        features: the map.
        rows: output rows of a strip.
        strips: number of strips in a program.
        with_sums: whether to make room for partial sums.
    """
    batch, channels, height, width = features.shape
    strip_rows, strip_columns = triton.cdiv(height, rows), triton.cdiv(width, STRIP_COLUMNS)
    result = empty_result(features, torch.channels_last)
    partial_sums = torch.empty(
        (batch, strip_rows * strip_columns if with_sums else 0, channels),
        dtype=torch.float32,
        device=features.device,
    )
    all_strips = batch * strip_rows * strip_columns
    sizes = (channels, height, width, all_strips, strip_rows, strip_columns)
    return StripLaunch(
        (result, partial_sums, *sizes),
        (all_strips + strips - 1) // strips,  # not triton.cdiv: to the compiler it is a symbol
        math.gcd(16, channels, features.stride(0), features.stride(2), features.stride(3)),
    )


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def place_strips(  # type: ignore[no-untyped-def]
    strips,
    strip_rows,
    strip_columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STRIPS: tl.constexpr,
):
    """Return the program's strips, whether they exist, their images, first rows and columns.

    Images are the first strip's, and how far each strip's is behind it: offsets from that image fit
    32 bits, since the others are only a few strips away.
    """
    strips_per_image = strip_rows * strip_columns
    strip = tl.program_id(1) * STRIPS + tl.arange(0, STRIPS)
    first_image = tl.program_id(1) * STRIPS // strips_per_image
    image_offset = strip // strips_per_image - first_image
    first_row = strip % strips_per_image // strip_columns * ROWS
    first_column = strip % strip_columns * COLUMNS
    return strip, strip < strips, first_image, image_offset, first_row, first_column


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def store_strips(  # type: ignore[no-untyped-def]
    result,
    partial_sums,
    convolved,
    first_image,
    image_offset,
    row,
    column,
    strip,
    is_strip,
    channel,
    channels,
    height,
    width,
    WITH_SUMS: tl.constexpr,
):
    """Store convolved strips, (S, outputs, C), and their channel sums.

    ``row`` and ``column`` place the outputs, (S, outputs), in the image that is ``image_offset``,
    (S,), behind the first strip's.
    """
    is_channel = channel < channels
    is_output = (row < height) & (column < width) & is_strip[:, None]
    is_stored = is_output[:, :, None] & is_channel[None, None, :]
    # The result is dense, the channels side by side.
    result += first_image.to(tl.int64) * height * width * channels
    pixel = (image_offset[:, None] * height + row) * width + column
    tl.store(
        result + pixel[:, :, None] * channels + channel[None, None, :], convolved, mask=is_stored
    )
    if WITH_SUMS:
        strip_sums = tl.sum(tl.where(is_stored, convolved.to(tl.float32), 0.0), axis=1)
        tl.store(
            partial_sums + strip.to(tl.int64)[:, None] * channels + channel[None, :],
            strip_sums,
            mask=is_strip[:, None] & is_channel[None, :],
        )


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["height", "width", "strips", "strip_rows", "strip_columns"])  # type: ignore[untyped-decorator,unused-ignore]
def _depthwise_matrix_kernel(  # type: ignore[no-untyped-def]
    features,
    features_b,
    features_h,
    features_w,
    table,
    bias,
    result,
    partial_sums,
    channels,
    height,
    width,
    strips,
    strip_rows,
    strip_columns,
    KERNEL: tl.constexpr,
    TABLE_ROWS: tl.constexpr,
    UNION: tl.constexpr,
    COLUMNS: tl.constexpr,
    MAX_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    STRIPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ALIGNED: tl.constexpr,
    WITH_SUMS: tl.constexpr,
):
    """Convolve ``STRIPS`` strips. Axes: channel blocks, strip blocks. The channel stride is 1."""
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    channels = channels // ALIGNED * ALIGNED
    features_b = features_b // ALIGNED * ALIGNED
    features_h = features_h // ALIGNED * ALIGNED
    features_w = features_w // ALIGNED * ALIGNED
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < channels
    strip, is_strip, first_image, image_offset, first_row, first_column = place_strips(
        strips, strip_rows, strip_columns, ROWS, COLUMNS, STRIPS
    )

    # The strips' unions of windows, from their first input row down.
    row = first_row - KERNEL // 2
    union = tl.arange(0, UNION)
    column = first_column[:, None] - KERNEL // 2 + union[None, :]
    is_column = (column >= 0) & (column < width) & is_strip[:, None]
    features += first_image.to(tl.int64) * features_b
    pixel = (image_offset * features_b + row * features_h)[:, None] + column * features_w
    offset = pixel[:, :, None] + channel[None, None, :]
    # The table starts with the tap row of the lowest output row: output rows run upwards.
    output = tl.arange(0, ROWS * COLUMNS)
    table += (MAX_ROWS - ROWS) * COLUMNS
    entry = channel[:, None] * UNION + union[None, :]
    table += entry[:, :, None] * (TABLE_ROWS * COLUMNS) + output[None, None, :]

    sums = tl.zeros([CHANNELS, STRIPS, ROWS * COLUMNS], tl.float32)
    for _ in tl.range(0, KERNEL + ROWS - 1, num_stages=1):
        inside = is_column & ((row >= 0) & (row < height))[:, None]
        mask = inside[:, :, None] & is_channel[None, None, :]
        values = tl.load(features + offset, mask=mask, other=0.0)  # (S, U, C)
        sums = tl.dot(tl.permute(values, (2, 0, 1)), tl.load(table), sums)
        features += features_h
        table += COLUMNS
        row += 1

    added = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    convolved = (sums + added[:, None, None]).to(result.dtype.element_ty)
    convolved = tl.permute(convolved, (1, 2, 0))  # (S, outputs, C)
    store_strips(
        result,
        partial_sums,
        convolved,
        first_image,
        image_offset,
        first_row[:, None] + (ROWS - 1 - output // COLUMNS)[None, :],
        first_column[:, None] + (output % COLUMNS)[None, :],
        strip,
        is_strip,
        channel,
        channels,
        height,
        width,
        WITH_SUMS,
    )


@triton_op("overlock::depthwise_matrix", mutates_args=())
def depthwise_matrix_triton(
    features: Tensor,
    table: Tensor,
    bias: Tensor,
    with_sums: bool,
    tile_name: str,
) -> tuple[Tensor, Tensor]:
    """Convolve; see ``model.kernels.large_depthwise``, which has checked the shapes.

    Args:
        features: (B, C, H, W) in channels_last, of a 16-bit dtype.
        table: ``tap_table`` of the weight.
        bias: (C,).
        with_sums: whether to compute partial sums.
        tile_name: a key of ``TILES``.

    Returns:
        (B, C, H, W) in channels_last, and each strip's channel sums over its pixels,
        (B, strips, C) float32, or (B, 0, C) without ``with_sums``.
    """
    tile = TILES[tile_name]
    launch = strip_launch(features, tile.rows, tile.strips, with_sums=with_sums)
    grid = (triton.cdiv(features.shape[1], tile.channels), launch.blocks)
    wrap_triton(_depthwise_matrix_kernel)[grid](
        features,
        features.stride(0),
        features.stride(2),
        features.stride(3),
        table,
        bias,
        *launch.arguments,
        KERNEL=table.shape[2] - 2 * (MAX_STRIP_ROWS - 1),
        TABLE_ROWS=table.shape[2],
        UNION=table.shape[1],
        COLUMNS=STRIP_COLUMNS,
        MAX_ROWS=MAX_STRIP_ROWS,
        ROWS=tile.rows,
        STRIPS=tile.strips,
        CHANNELS=tile.channels,
        ALIGNED=launch.aligned,
        WITH_SUMS=with_sums,
        num_warps=tile.warps,
    )
    return launch.results
