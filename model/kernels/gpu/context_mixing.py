# ruff: noqa: N803, N806 - what is constant in a compilation is upper case, as Triton has it
"""ContMix as one GPU kernel: logits, two softmaxes and both aggregations without a weight tensor.

A program owns one tile: ``TILE_PIXELS`` neighbours in a row of the map, one group of channels, one
of the two kernel sizes. It walks down the K tap rows of their windows as attention walks along its
keys, with a running softmax in float32. All pixels of a tile have the same window rows; their
window columns differ by at most ``TILE_PIXELS - 1``. So for each tap row

    logits  = queries (16, D) . keys of the tap row (D, K) + bias        matrix product
    weights = exp(logits - running maximum)
    spread  = weights moved to where each pixel's window lies in the     gather within the warp
              union of the tile's windows (16, 16 + K - 1)
    mixed  += spread . values of one map row under the union             matrix product

Near the border windows slide to stay inside the map and the union only becomes narrower: no pixel
is a special case. Every size is padded to the matrix unit's 16 with masks: head widths of 8, 10 or
14, the K taps of a row, the union. A program is one warp, so that it waits for no other.

Bytes and operations of one block and image, T, bfloat16, at 224x224 (stages 3 | 4 of the focus
net: 14x14, 256 channels, 8 groups, K = 13 | 7x7, 512, 16, 7) and for detection at 800x1088:

    map                             14x14     7x7     50x68     25x34
    values, queries, result, MB     0.25      0.13    4.35      2.18      to and from memory
    virtual keys, MB                0.05      0.04    0.05      0.04      the same
    bias windows, MB                0.47      0.10    0.47      0.10      the same for every image
    multiply-adds, M                9.7       1.9     169       32
    exponentials, M                 0.30      0.06    5.3       1.0
    exponentials with padding, M    0.52      0.34    9.2       3.7

At 4.8 TB/s, 3.7 T exponentials and 927 G instructions of a warp a second (H200), 64 images of
14x14 take 4 us for their memory, 9 us for their exponentials, 2 us for their matrix products and
27 us for the 170 instructions that a warp spends on each tap row of a tile (240 where the union is
wider than 16); 64 of 7x7, which fill 7 of a tile's 16 pixels, 2, 6, 1 and 19 us. What the tiles
read again comes from the caches: 20 KB for both parts of one, 140 MB for 64 images of 14x14, 26 us
if all of it came from the second level at 5.5 TB/s. So the kernel is bound by what it does per
weight between the two products, and nearly as much by those caches.

Measured on an H200 (``benchmarks/results/gpu.md``) they take 87 and 52 us: a program is one warp in
13 dependent steps, and waits.

The machine code for sm_90 (Triton 3.6 and 3.9; ``test_triton_compiles`` makes it) agrees with the
count: 173 instructions in the loop over tap rows at 14x14 in bfloat16, four of them matrix
products, no spills, 72 to 94 registers; wide maps 106 to 117, float32 127 to 185.

Virtual keys are made before, by one small batched product, and not in here. Of an image of T at
14x14 they are 1.2 M multiply-adds and 0.05 MB, which the kernel finds in the second-level cache.
Every tile would have to make its own again from the keys and the map of 49 columns: 17 M
multiply-adds at 14x14, more than the rest of the kernel, 300 M at 50x68, and three times the bytes
a tile reads now (the part of the map is 169 x 49 numbers where its virtual keys are 169 x 16), to
save a launch of 2 us in a CUDA graph. A program that made them once for all tiles of a group would
leave most multiprocessors idle at batch 1. For the same reason maps that are smaller than the
window are enlarged before and pooled after: both are linear in what they move, cost what they
move, and occur only where a side is below 16 * 13 or 32 * 7 pixels.
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
"""Warps of a program. Registers let about 20 programs share a multiprocessor."""

STAGES = 2
"""Tap rows in flight: the loads of one overlap the products of the other. On an H200 three are a
sixth faster for one image in bfloat16, and as fast for 64; float32 would spill a register."""


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
    """Mix one tile; the pointers stand at its image, group and part."""
    LOG2_E: tl.constexpr = 1.4426950408889634
    columns = tl.minimum(first_column + tl.arange(0, TILE), width - 1)  # repeats the last pixel
    channel = tl.arange(0, PADDED)  # of values and of queries, which are as wide in OverLoCK
    tap_column = tl.arange(0, TAPS)
    is_tap = tap_column[None, :] < KERNEL

    # Where the windows lie: one first row, a first column per pixel, the union of their columns.
    start_row = tl.minimum(tl.maximum(row - KERNEL // 2, 0), height - KERNEL)
    start_columns = tl.minimum(tl.maximum(columns - KERNEL // 2, 0), width - KERNEL)
    union_start = tl.minimum(tl.maximum(first_column - KERNEL // 2, 0), width - KERNEL)
    union_columns = union_start + tl.arange(0, UNION)
    # The tap that falls on each column of the union, (TILE, UNION); tap KERNEL weighs nothing.
    tap_on_column = union_columns[None, :] - start_columns[:, None]
    in_window = (tap_on_column >= 0) & (tap_on_column < KERNEL)
    tap_on_column = tl.where(in_window, tap_on_column, KERNEL)

    # What the first tap row needs; the loop moves these down.
    place_in_window = (row - start_row) * KERNEL + (columns - start_columns)
    bias += place_in_window[:, None] * (KERNEL * KERNEL) + tap_column[None, :]
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

    own = first_column + tl.arange(0, TILE)
    tl.store(
        result + row * result_h + own[:, None] * result_w + channel[None, :] * result_c,
        (mixed / total[:, None]).to(result.dtype.element_ty),
        mask=(own[:, None] < width) & (channel[None, :] < CHANNELS),
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
    """Aggregate every pixel's neighbourhood; arguments and result as ``context_mixing`` has them.

    All arguments are of one dtype: float32, bfloat16 or float16. Values and queries may have any
    strides.

    Raises:
        ValueError: if the shapes do not belong together (the kernel would read elsewhere).
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
        shapes = (values, queries, virtual_keys, small_bias, large_bias)
        raise ValueError(
            f"These are no arguments of one ContMix: {[tuple(part.shape) for part in shapes]}."
        )


def _padded(size: int) -> int:
    return max(16, int(triton.next_power_of_2(size)))


def _union_columns(kernel_size: int, width: int) -> int:
    """Return the padded number of columns that a tile's windows cover together."""
    return _padded(min(width, TILE_PIXELS + kernel_size - 1))
