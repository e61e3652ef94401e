# ruff: noqa: N803, N806 - what is constant in a compilation is upper case, as Triton has it
"""Large-kernel depthwise convolution on the matrix units, with Toeplitz matrices made of taps.

The products are those of ``model.kernels.gpu.depthwise_16bit``; what differs is how their operands
come to the matrix units. Two neighbouring channels are one 32-bit number and have one warp, so
whole sectors of memory are loaded and reach their warp in half as many steps. No table is stored: a
warp loads a row of taps, one for each thread, and shuffles it into its Toeplitz matrix. Entry
(u, x) is tap u - x, so 8x8 blocks along a diagonal are equal, and for K up to 17 only three
different ones hold taps. A row of taps stays in registers while it passes under the strip's four
output rows.

Counts: docs/kernels.md.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.depthwise_16bit import place_strips, store_strips, strip_launch
from model.kernels.gpu.depthwise_layout import STRIP_COLUMNS

PAIRS = {"few_paired": 8, "many_paired": 16}
"""Pairs of channels of a program, a warp for each, by tile: sixteen read less for each product."""

ROWS = 4
"""Output rows of a strip."""

STRIPS = 16
"""Strips of a program: the rows of a matrix unit."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _tap_pairs(taps, tap, is_row, KERNEL: tl.constexpr):  # type: ignore[no-untyped-def]
    """Load taps ``tap`` and ``tap + 1`` of a row as one number; outside of the row they are 0."""
    lower = tl.load(taps + tap, mask=is_row & (tap >= 0) & (tap < KERNEL), other=0.0)
    tap += 1
    upper = tl.load(taps + tap, mask=is_row & (tap >= 0) & (tap < KERNEL), other=0.0)
    return _bits(lower) | (_bits(upper) << 16)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _bits(numbers):  # type: ignore[no-untyped-def]
    return numbers.to(tl.uint16, bitcast=True).to(tl.uint32)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _lower(pairs, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    return pairs.to(tl.uint16).to(DTYPE, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _upper(pairs, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    return (pairs >> 16).to(tl.uint16).to(DTYPE, bitcast=True)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _toeplitz(row, PAIRS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Put the 8x8 blocks of a tap row, (P, 32), on the diagonals of two by four."""
    thread = tl.arange(0, 32)
    place = 2 * (thread % 4) - thread // 4 + 7 + tl.zeros([PAIRS, 1], tl.int32)
    first = tl.reshape(tl.gather(row, place, axis=1), (PAIRS, 8, 4))
    second = tl.reshape(tl.gather(row, place + 8, axis=1), (PAIRS, 8, 4))
    third = tl.reshape(tl.gather(row, place + 16, axis=1), (PAIRS, 8, 4))
    zero = tl.zeros_like(first)
    left = tl.join(tl.join(first, second), tl.join(third, zero))
    right = tl.join(tl.join(zero, first), tl.join(second, third))
    return tl.join(left, right)  # x % 8, u // 2 % 4, u // 8 % 2, u // 16, x // 8


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _matrix(row_0, row_1, row_2, row_3, PAIRS: tl.constexpr, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Make one matrix, (P, 32, 4 * 16), of the blocks of the tap rows over four output rows."""
    upper_rows = tl.join(_toeplitz(row_0, PAIRS), _toeplitz(row_1, PAIRS))
    lower_rows = tl.join(_toeplitz(row_2, PAIRS), _toeplitz(row_3, PAIRS))
    rows = tl.join(upper_rows, lower_rows)
    entries = tl.join(rows & 0xFFFF, rows >> 16)
    # From P, x % 8, u // 2 % 4, u // 8 % 2, u // 16, x // 8, row % 2, row // 2, u % 2
    # to P, u // 16, u // 8 % 2, u // 2 % 4, u % 2, row // 2, row % 2, x // 8, x % 8:
    entries = tl.permute(entries, (0, 4, 3, 2, 8, 7, 6, 5, 1))
    # Looking back through a join, the compiler would give threads other entries than the shuffles
    # did and move them once more. It does not look through a reduction, here of single numbers.
    entries = tl.max(tl.reshape(entries, (PAIRS, 32, 64, 1)), axis=3)
    return entries.to(tl.uint16).to(DTYPE, bitcast=True)


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["height", "width", "strips", "strip_rows", "strip_columns"])  # type: ignore[untyped-decorator,unused-ignore]
def _depthwise_paired_kernel(  # type: ignore[no-untyped-def]
    features,
    features_b,
    features_h,
    features_w,
    weight,
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
    UNION: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    STRIPS: tl.constexpr,
    PAIRS: tl.constexpr,
    ALIGNED: tl.constexpr,
    WITH_SUMS: tl.constexpr,
):
    """Convolve ``STRIPS`` strips. Axes: channel blocks, strip blocks. The channel stride is 1."""
    DTYPE: tl.constexpr = result.dtype.element_ty
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    channels = channels // ALIGNED * ALIGNED
    features_b = features_b // ALIGNED * (ALIGNED // 2)  # in pairs, as the next two
    features_h = features_h // ALIGNED * (ALIGNED // 2)
    features_w = features_w // ALIGNED * (ALIGNED // 2)
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    is_pair = pair < channels // 2
    strip, is_strip, first_image, image_offset, first_row, first_column = place_strips(
        strips, strip_rows, strip_columns, ROWS, COLUMNS, STRIPS
    )

    # The strips' unions of windows, from their first input row down.
    row = first_row - KERNEL // 2
    column = first_column[None, :] - KERNEL // 2 + tl.arange(0, UNION)[:, None]
    is_column = (column >= 0) & (column < width) & is_strip[None, :]  # (U, S)
    features = features.to(tl.pointer_type(tl.uint32), bitcast=True)
    features += first_image.to(tl.int64) * features_b
    pixel = (image_offset * features_b + row * features_h)[None, :] + column * features_w
    offset = pixel[:, :, None] + pair[None, None, :]
    # Taps -7 to 24 of a row of the even channel, with the ones beside them, (P, 32).
    tap = tl.arange(0, 32)[None, :] - 7
    taps = weight + (2 * pair * (KERNEL * KERNEL))[:, None]
    is_tap = is_pair[:, None]

    even_sums = tl.zeros([PAIRS, STRIPS, ROWS * COLUMNS], tl.float32)
    odd_sums = tl.zeros([PAIRS, STRIPS, ROWS * COLUMNS], tl.float32)
    # An input row lies under tap row y of the first output row and y - r of output row r.
    even_1 = tl.zeros([PAIRS, 32], tl.uint32)
    even_2 = tl.zeros([PAIRS, 32], tl.uint32)
    even_3 = tl.zeros([PAIRS, 32], tl.uint32)
    odd_1 = tl.zeros([PAIRS, 32], tl.uint32)
    odd_2 = tl.zeros([PAIRS, 32], tl.uint32)
    odd_3 = tl.zeros([PAIRS, 32], tl.uint32)
    for y in tl.range(0, KERNEL + ROWS - 1, num_stages=1):
        inside = is_column & ((row >= 0) & (row < height))[None, :]
        mask = inside[:, :, None] & is_pair[None, None, :]
        pairs = tl.permute(tl.load(features + offset, mask=mask, other=0), (2, 1, 0))  # (P, S, U)
        is_row = is_tap & (y < KERNEL)
        even_0 = _tap_pairs(taps, tap, is_row, KERNEL)
        odd_0 = _tap_pairs(taps + KERNEL * KERNEL, tap, is_row, KERNEL)
        matrix = _matrix(even_0, even_1, even_2, even_3, PAIRS, DTYPE)
        even_sums = tl.dot(_lower(pairs, DTYPE), matrix, even_sums)
        matrix = _matrix(odd_0, odd_1, odd_2, odd_3, PAIRS, DTYPE)
        odd_sums = tl.dot(_upper(pairs, DTYPE), matrix, odd_sums)
        even_3, even_2, even_1 = even_2, even_1, even_0
        odd_3, odd_2, odd_1 = odd_2, odd_1, odd_0
        features += features_h
        taps += KERNEL
        row += 1

    even_bias = tl.load(bias + 2 * pair, mask=is_pair, other=0.0).to(tl.float32)
    odd_bias = tl.load(bias + 2 * pair + 1, mask=is_pair, other=0.0).to(tl.float32)
    even_sums = (even_sums + even_bias[:, None, None]).to(DTYPE)
    odd_sums = (odd_sums + odd_bias[:, None, None]).to(DTYPE)
    convolved = tl.permute(tl.join(even_sums, odd_sums), (1, 2, 0, 3))
    convolved = tl.reshape(convolved, (STRIPS, ROWS * COLUMNS, 2 * PAIRS))
    output = tl.arange(0, ROWS * COLUMNS)
    store_strips(
        result,
        partial_sums,
        convolved,
        first_image,
        image_offset,
        first_row[:, None] + (output // COLUMNS)[None, :],
        first_column[:, None] + (output % COLUMNS)[None, :],
        strip,
        is_strip,
        tl.program_id(0) * (2 * PAIRS) + tl.arange(0, 2 * PAIRS),
        channels,
        height,
        width,
        WITH_SUMS,
    )


@triton_op("overlock::depthwise_paired", mutates_args=())
def depthwise_paired_triton(
    features: Tensor, weight: Tensor, bias: Tensor, with_sums: bool, tile_name: str
) -> tuple[Tensor, Tensor]:
    """Convolve; see ``model.kernels.large_depthwise``, which has checked the shapes.

    Args:
        features: (B, C, H, W) in channels_last, of a 16-bit dtype, even C.
        weight: (C, 1, K, K), contiguous, K at most ``MAX_PAIRED_KERNEL``.
        bias: (C,).
        with_sums: whether to compute partial sums.
        tile_name: a key of ``PAIRS``.

    Returns:
        (B, C, H, W) in channels_last, and each strip's channel sums over its pixels,
        (B, strips, C) float32, or (B, 0, C) without ``with_sums``.
    """
    places = (features.storage_offset(), *(features.stride(axis) for axis in (0, 2, 3)))
    if any(place % 2 for place in places):  # a stride along a single entry may be any
        # A pair must not straddle two words of memory.
        features = features.clone(memory_format=torch.channels_last)
    pairs = PAIRS[tile_name]
    launch = strip_launch(features, ROWS, STRIPS, with_sums=with_sums)
    grid = (triton.cdiv(features.shape[1], 2 * pairs), launch.blocks)
    wrap_triton(_depthwise_paired_kernel)[grid](
        features,
        features.stride(0),
        features.stride(2),
        features.stride(3),
        weight,
        bias,
        *launch.arguments,
        KERNEL=weight.shape[-1],
        UNION=2 * STRIP_COLUMNS,
        COLUMNS=STRIP_COLUMNS,
        ROWS=ROWS,
        STRIPS=STRIPS,
        PAIRS=pairs,
        ALIGNED=launch.aligned,
        WITH_SUMS=with_sums,
        num_warps=pairs,
    )
    return launch.results
