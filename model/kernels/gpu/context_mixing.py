# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""ContMix as one GPU kernel: logits, two softmaxes and both aggregations without a weight tensor.

A program owns one tile: ``TILE_PIXELS`` neighbours in a row of the map, one group of channels, one
of the two kernel sizes (``model.kernels.gpu.context_mixing_tile``).

Near the border windows slide to stay inside the map and the union only becomes narrower: no pixel
is a special case. Every size is padded to the matrix unit's 16 with masks: head widths of 8, 10 or
14, the K taps of a row, the union.

Virtual keys are an argument: making them in every tile would take more multiply-adds than the rest
of the kernel. Counts and measurements: docs/kernels.md.
"""

from __future__ import annotations

import math

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.context_mixing_tile import mix_tile
from model.kernels.gpu.mixing_orders import ORDERS
from model.kernels.gpu.support import empty_result

TILE_PIXELS = 16
"""Pixels of a tile: the least number of rows a matrix unit takes."""

WARPS = 1
"""Warps of a program; one waits for no other. About 20 programs share a multiprocessor."""


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator,unused-ignore]
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
    keys_b,
    keys_g,
    keys_t,
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
    ONE_SOFTMAX: tl.constexpr,
    SMALL_STARTS: tl.constexpr,
    LARGE_STARTS: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Mix a tile. Axes: tiles, row by row; large groups, then small groups; images."""
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    keys_b = keys_b // ALIGNED * ALIGNED
    keys_g = keys_g // ALIGNED * ALIGNED
    keys_t = keys_t // ALIGNED * ALIGNED
    column_tiles = tl.cdiv(width, TILE)
    row = tl.program_id(0) // column_tiles
    first_column = tl.program_id(0) % column_tiles * TILE
    group = tl.program_id(1) % GROUPS
    is_small = tl.program_id(1) >= GROUPS  # the long programs start first
    image = tl.program_id(2).to(tl.int64)  # a batch may hold more than 2^31 numbers

    part_group = tl.where(is_small, group, GROUPS + group)
    queries += image * queries_b + group * QUERY * queries_c
    keys += image * keys_b + group * keys_g
    values += image * values_b + part_group * CHANNELS * values_c
    result += image * result_b + part_group * CHANNELS * result_c
    values_strides = (values_c, values_h, values_w)
    queries_strides = (queries_c, queries_h, queries_w)
    result_strides = (result_c, result_h, result_w)
    place = (row, first_column, height, width)
    if is_small:
        mix_tile(
            values,
            queries,
            keys,
            small_bias + group * (SMALL * SMALL * SMALL * SMALL),
            result,
            values_strides,
            queries_strides,
            keys_t,
            result_strides,
            place,
            KERNEL=SMALL,
            CHANNELS=CHANNELS,
            QUERY=QUERY,
            PADDED=PADDED,
            UNION=SMALL_UNION,
            TAPS=TAPS,
            TILE=TILE,
            STAGES=STAGES,
            ONE_SOFTMAX=ONE_SOFTMAX,
            STARTS=SMALL_STARTS,
        )
    else:
        mix_tile(
            values,
            queries,
            keys + SMALL * SMALL * keys_t,
            large_bias + group * (LARGE * LARGE * LARGE * LARGE),
            result,
            values_strides,
            queries_strides,
            keys_t,
            result_strides,
            place,
            KERNEL=LARGE,
            CHANNELS=CHANNELS,
            QUERY=QUERY,
            PADDED=PADDED,
            UNION=LARGE_UNION,
            TAPS=TAPS,
            TILE=TILE,
            STAGES=STAGES,
            ONE_SOFTMAX=ONE_SOFTMAX,
            STARTS=LARGE_STARTS,
        )


@triton_op("overlock::context_mixing", mutates_args=())
def context_mixing_triton(
    values: Tensor,
    queries: Tensor,
    virtual_keys: Tensor,
    small_bias: Tensor,
    large_bias: Tensor,
    order_name: str = "triton",
) -> Tensor:
    """Aggregate every pixel's neighbourhood; same arguments and result as ``context_mixing``.

    All tensors are of one dtype: float32, bfloat16 or float16. Values and queries may have any
    strides, and virtual keys any but 1 in a key. ``order_name`` is a key of ``ORDERS``.

    Raises:
        ValueError: if the shapes are inconsistent (the kernel would read out of bounds).
    """
    _check_shapes(values, queries, virtual_keys, small_bias, large_bias)
    order = ORDERS[order_name]
    if virtual_keys.stride(3) != 1:
        virtual_keys = virtual_keys.contiguous()
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
        virtual_keys,
        *virtual_keys.stride()[:3],
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
        STAGES=order.stages,
        ONE_SOFTMAX=order.one_softmax,
        SMALL_STARTS=order.starts(small, width),
        LARGE_STARTS=order.starts(large, width),
        ALIGNED=math.gcd(16, *virtual_keys.stride()[:3]),
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
