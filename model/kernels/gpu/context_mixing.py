# ruff: noqa: N803, N806 - what is constant in a compilation is upper case, as Triton has it
"""ContMix as one GPU kernel: logits, two softmaxes and both aggregations without a weight tensor.

A program owns one tile: ``TILE_PIXELS`` neighbours in a row of the map, one group of channels, one
of the two kernel sizes. It loops over the K tap rows of their windows as attention loops over its
keys, with a running softmax in float32. All pixels of a tile have the same window rows; their
window columns differ by at most ``TILE_PIXELS - 1``. So for each tap row

    logits  = queries (16, D) . keys of the tap row (D, K) + bias        matrix product
    weights = exp(logits - running maximum)
    spread  = weights moved to where each pixel's window lies in the     gather within the warp
              union of the tile's windows (16, 16 + K - 1)
    mixed  += spread . values of one map row under the union             matrix product

Near the border windows slide to stay inside the map and the union only becomes narrower: no pixel
is a special case. Every size is padded to the matrix unit's 16 with masks: head widths of 8, 10 or
14, the K taps of a row, the union.

Virtual keys are an argument: making them in every tile would take more multiply-adds than the rest
of the kernel. Counts and measurements: docs/kernels.md.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.support import empty_result

TILE_PIXELS = 16
"""Pixels of a tile: the least number of rows a matrix unit takes."""

WARPS = 1
"""Warps of a program; one waits for no other. About 20 programs share a multiprocessor."""

STAGES = 2
"""Tap rows in flight: the loads of one overlap the products of the other."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _mix_tile(  # type: ignore[no-untyped-def]
    values,
    values_c,
    values_h,
    values_w,
    queries,
    queries_c,
    queries_h,
    queries_w,
    keys,
    bias,
    result,
    result_c,
    result_h,
    result_w,
    row,
    first_column,
    height,
    width,
    KERNEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    QUERY: tl.constexpr,
    PADDED: tl.constexpr,
    UNION: tl.constexpr,
    TAPS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Mix one tile; the pointers point at its image, group and kernel size."""
    LOG2_E: tl.constexpr = 1.4426950408889634
    columns = tl.minimum(first_column + tl.arange(0, TILE), width - 1)  # repeats the last pixel
    channel = tl.arange(0, PADDED)  # of values and of queries, which are as wide in OverLoCK
    tap_column = tl.arange(0, TAPS)
    is_tap = tap_column[None, :] < KERNEL

    # The windows' first row, their first columns by pixel, and the first column of their union.
    start_row = tl.minimum(tl.maximum(row - KERNEL // 2, 0), height - KERNEL)
    start_columns = tl.minimum(tl.maximum(columns - KERNEL // 2, 0), width - KERNEL)
    union_start = tl.minimum(tl.maximum(first_column - KERNEL // 2, 0), width - KERNEL)
    union_columns = union_start + tl.arange(0, UNION)
    # The tap that falls on each column of the union, (TILE, UNION); tap KERNEL weighs nothing.
    tap_on_column = union_columns[None, :] - start_columns[:, None]
    in_window = (tap_on_column >= 0) & (tap_on_column < KERNEL)
    tap_on_column = tl.where(in_window, tap_on_column, KERNEL)

    # Pointers for the first tap row.
    window_offset = (row - start_row) * KERNEL + (columns - start_columns)
    bias += window_offset[:, None] * (KERNEL * KERNEL) + tap_column[None, :]
    keys += tap_column[None, :] * QUERY + channel[:, None]
    values += start_row * values_h
    values += union_columns[:, None] * values_w + channel[None, :] * values_c
    is_key = is_tap & (channel[:, None] < QUERY)
    is_value = (union_columns[:, None] < width) & (channel[None, :] < CHANNELS)
    queries += row * queries_h
    queries += columns[:, None] * queries_w + channel[None, :] * queries_c
    tile_queries = tl.load(queries, mask=channel[None, :] < QUERY, other=0.0)

    maximum = tl.full([TILE], float("-inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    mixed = tl.zeros([TILE, PADDED], tl.float32)
    for tap_row in tl.range(0, KERNEL, num_stages=STAGES):
        row_bias = tl.load(bias + tap_row * KERNEL, mask=is_tap, other=float("-inf"))
        row_keys = tl.load(keys + tap_row * (KERNEL * QUERY), mask=is_key, other=0.0)
        row_values = tl.load(values + tap_row * values_h, mask=is_value, other=0.0)

        logits = tl.dot(tile_queries, row_keys, input_precision="tf32x3") + row_bias
        new_maximum = tl.maximum(maximum, tl.max(logits, axis=1) * LOG2_E)
        weights = tl.exp2(logits * LOG2_E - new_maximum[:, None])  # (TILE, TAPS)
        decay = tl.exp2(maximum - new_maximum)
        total = total * decay + tl.sum(weights, axis=1)
        maximum = new_maximum

        spread = tl.gather(weights, tap_on_column, axis=1)  # (TILE, TAPS) -> (TILE, UNION)
        spread = spread.to(row_values.dtype)
        mixed = mixed * decay[:, None]
        mixed = tl.dot(spread, row_values, mixed, input_precision="tf32x3")

    tile_columns = first_column + tl.arange(0, TILE)
    tl.store(
        result + row * result_h + tile_columns[:, None] * result_w + channel[None, :] * result_c,
        (mixed / total[:, None]).to(result.dtype.element_ty),
        mask=(tile_columns[:, None] < width) & (channel[None, :] < CHANNELS),
    )


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _context_mixing_kernel(  # type: ignore[no-untyped-def]
    values,
    values_b,
    values_c,
    values_h,
    values_w,
    queries,
    queries_b,
    queries_c,
    queries_h,
    queries_w,
    keys,
    small_bias,
    large_bias,
    result,
    result_b,
    result_c,
    result_h,
    result_w,
    height,
    width,
    GROUPS: tl.constexpr,
    SMALL: tl.constexpr,
    LARGE: tl.constexpr,
    CHANNELS: tl.constexpr,
    QUERY: tl.constexpr,
    PADDED: tl.constexpr,
    SMALL_UNION: tl.constexpr,
    LARGE_UNION: tl.constexpr,
    TAPS: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Mix a tile. Axes: tiles, row by row; large groups, then small groups; images."""
    column_tiles = tl.cdiv(width, TILE)
    row = tl.program_id(0) // column_tiles
    first_column = tl.program_id(0) % column_tiles * TILE
    group = tl.program_id(1) % GROUPS
    is_small = tl.program_id(1) >= GROUPS  # the long programs start first
    image = tl.program_id(2).to(tl.int64)  # a batch may hold more than 2^31 numbers

    part_group = tl.where(is_small, group, GROUPS + group)
    queries += image * queries_b + group * QUERY * queries_c
    keys += (image * GROUPS + group) * ((SMALL * SMALL + LARGE * LARGE) * QUERY)
    values += image * values_b + part_group * CHANNELS * values_c
    result += image * result_b + part_group * CHANNELS * result_c
    if is_small:
        _mix_tile(
            values,
            values_c,
            values_h,
            values_w,
            queries,
            queries_c,
            queries_h,
            queries_w,
            keys,
            small_bias + group * (SMALL * SMALL * SMALL * SMALL),
            result,
            result_c,
            result_h,
            result_w,
            row,
            first_column,
            height,
            width,
            KERNEL=SMALL,
            CHANNELS=CHANNELS,
            QUERY=QUERY,
            PADDED=PADDED,
            UNION=SMALL_UNION,
            TAPS=TAPS,
            TILE=TILE,
            STAGES=STAGES,
        )
    else:
        _mix_tile(
            values,
            values_c,
            values_h,
            values_w,
            queries,
            queries_c,
            queries_h,
            queries_w,
            keys + SMALL * SMALL * QUERY,
            large_bias + group * (LARGE * LARGE * LARGE * LARGE),
            result,
            result_c,
            result_h,
            result_w,
            row,
            first_column,
            height,
            width,
            KERNEL=LARGE,
            CHANNELS=CHANNELS,
            QUERY=QUERY,
            PADDED=PADDED,
            UNION=LARGE_UNION,
            TAPS=TAPS,
            TILE=TILE,
            STAGES=STAGES,
        )


@triton_op("overlock::context_mixing", mutates_args=())
def context_mixing_triton(
    values: Tensor, queries: Tensor, virtual_keys: Tensor, small_bias: Tensor, large_bias: Tensor
) -> Tensor:
    """Aggregate every pixel's neighbourhood; same arguments and result as ``context_mixing``.

    All arguments are of one dtype: float32, bfloat16 or float16. Values and queries may have any
    strides.

    Raises:
        ValueError: if the shapes are inconsistent (the kernel would read out of bounds).
    """
    _check_shapes(values, queries, virtual_keys, small_bias, large_bias)
    result = empty_result(values, torch.preserve_format)
    batch, channels, height, width = values.shape
    groups, small, large = small_bias.shape[0], small_bias.shape[1], large_bias.shape[1]
    query_width, group_width = queries.shape[1] // groups, channels // (2 * groups)
    column_tiles = triton.cdiv(width, TILE_PIXELS)
    wrap_triton(_context_mixing_kernel)[(height * column_tiles, 2 * groups, batch)](
        values,
        *values.stride(),
        queries,
        *queries.stride(),
        virtual_keys.contiguous(),
        small_bias.contiguous(),
        large_bias.contiguous(),
        result,
        *result.stride(),
        height,
        width,
        GROUPS=groups,
        SMALL=small,
        LARGE=large,
        CHANNELS=group_width,
        QUERY=query_width,
        PADDED=_padded(max(group_width, query_width)),
        SMALL_UNION=_union_columns(small, width),
        LARGE_UNION=_union_columns(large, width),
        TAPS=_padded(large + 1),  # at least one tap of a row is padding
        TILE=TILE_PIXELS,
        STAGES=STAGES,
        num_warps=WARPS,
    )
    return result


def _check_shapes(
    values: Tensor, queries: Tensor, virtual_keys: Tensor, small_bias: Tensor, large_bias: Tensor
) -> None:
    batch, channels, height, width = values.shape
    groups, small, large = small_bias.shape[0], small_bias.shape[1], large_bias.shape[1]
    query_width = queries.shape[1] // groups
    fits = (
        queries.shape == (batch, groups * query_width, height, width)
        and virtual_keys.shape == (batch, groups, small**2 + large**2, query_width)
        and small_bias.shape == (groups, small, small, small**2)
        and large_bias.shape == (groups, large, large, large**2)
        and channels % (2 * groups) == 0
        and small <= large <= min(height, width)
    )
    if not fits:
        tensors = (values, queries, virtual_keys, small_bias, large_bias)
        raise ValueError(
            f"Inconsistent shapes for ContMix: {[tuple(tensor.shape) for tensor in tensors]}."
        )


def _padded(size: int) -> int:
    return max(16, int(triton.next_power_of_2(size)))


def _union_columns(kernel_size: int, width: int) -> int:
    """Return the padded number of columns that a tile's windows cover together."""
    return _padded(min(width, TILE_PIXELS + kernel_size - 1))
