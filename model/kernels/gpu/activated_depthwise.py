# ruff: noqa: N803, RUF005 - constants of a compilation are upper case, as Triton has it, and its
# tuples grow by addition alone
# mypy: disable-error-code="assignment, var-annotated"
"""A 3x3 depthwise convolution and GELU in one pass over a channels_last map.

GELU comes before the convolution, with a bias before it and sums of squares behind, or behind it.

A program owns a strip of columns of one image, and goes down its rows. Of each input row it
activates the strip's columns and one more on either side, once, and adds them to the sums of the
three output rows above, beside and below; so the only values that are activated twice are those at
the strip's edges. Nothing is staged in shared memory.

Activating is what costs, more than the nine taps. Counts: docs/kernels.md.

For the response norm it writes one partial sum of squares a strip, added up afterwards in a fixed
order: with atomics the order, and so the rounding, would change from run to run.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.activations import gelu, short_gelu
from model.kernels.gpu.pixel_taps import load_taps
from model.kernels.gpu.support import empty_result


class Tile(NamedTuple):
    """The work of one program.

    Attributes:
        rows: output rows of a strip.
        columns: output columns of a strip.
        channels: number of channels.
        warps: warps of 32 threads.
    """

    rows: int
    columns: int
    channels: int
    warps: int


TILES = {
    "few": Tile(rows=4, columns=4, channels=128, warps=1),
    "many": Tile(rows=14, columns=7, channels=128, warps=2),
}
"""Candidates to measure: small programs keep a device busy with one image, large ones activate
fewer values twice. The maps of a 224x224 image are 56, 28, 14 and 7 columns wide."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _activated(values, SHORT: tl.constexpr):  # type: ignore[no-untyped-def]
    return short_gelu(values) if SHORT else gelu(values)


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["height", "width"])  # type: ignore[untyped-decorator,unused-ignore]
def _activated_depthwise_kernel(  # type: ignore[no-untyped-def]
    features,
    features_b,
    features_h,
    features_w,
    added,
    taps,
    bias,
    result,
    partial_squares,
    channels,
    height,
    width,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ALIGNED: tl.constexpr,
    SHORT: tl.constexpr,
    BEFORE: tl.constexpr,
):
    """Compute one strip. Axes: strips; channel blocks; images. The channel stride is 1."""
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    channels = channels // ALIGNED * ALIGNED
    features_b = features_b // ALIGNED * ALIGNED
    features_h = features_h // ALIGNED * ALIGNED
    features_w = features_w // ALIGNED * ALIGNED
    column_strips = tl.cdiv(width, COLUMNS)
    strip = tl.program_id(0)
    image = tl.program_id(2).to(tl.int64)  # a batch may hold more than 2^31 numbers
    first_row = strip // column_strips * ROWS
    first_column = strip % column_strips * COLUMNS
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_channel = channel < channels

    features += image * features_b + channel
    result += image * height * width * channels + channel  # dense, the channels side by side
    taps += channel
    add_before = tl.load(added + channel, mask=is_channel, other=0.0).to(tl.float32)
    add_after = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)

    # The sums of the output row that an input row ends, and of the one that it continues.
    ended = ()
    continued = ()
    for _ in tl.static_range(COLUMNS):
        ended = ended + (add_after,)
        continued = continued + (add_after,)
    squares = tl.zeros([CHANNELS], tl.float32)
    for step in tl.range(0, tl.minimum(ROWS, height - first_row) + 2):
        row = first_row + step - 1
        activated = ()
        for x in tl.static_range(COLUMNS + 2):
            column = first_column + x - 1
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row * features_h + column * features_w
            loaded = tl.load(features + place, mask=is_channel & inside, other=0.0)
            values = loaded.to(tl.float32)
            if BEFORE:
                values = _activated(values + add_before, SHORT)
                values = tl.where(inside, values, 0.0)
            activated = activated + (values,)

        begun = ()
        for _ in tl.static_range(COLUMNS):
            begun = begun + (add_after,)
        for tap in tl.static_range(3):
            above, beside, below = load_taps(taps, tap, channels, is_channel)
            new_ended = ()
            new_continued = ()
            new_begun = ()
            for x in tl.static_range(COLUMNS):
                new_ended = new_ended + (ended[x] + below * activated[x + tap],)
                new_continued = new_continued + (continued[x] + beside * activated[x + tap],)
                new_begun = new_begun + (begun[x] + above * activated[x + tap],)
            ended, continued, begun = new_ended, new_continued, new_begun

        output_row = row - 1
        for x in tl.static_range(COLUMNS):
            column = first_column + x
            is_output = (step >= 2) & (column < width)
            stored = (ended[x] if BEFORE else _activated(ended[x], SHORT)).to(
                result.dtype.element_ty
            )
            place = (output_row * width + column) * channels
            tl.store(result + place, stored, mask=is_channel & is_output)
            square = stored.to(tl.float32) * stored.to(tl.float32)
            squares += tl.where(is_output, square, 0.0)
        ended, continued = continued, begun

    if BEFORE:
        place = (image * tl.num_programs(0) + strip) * channels
        tl.store(partial_squares + place + channel, squares, mask=is_channel)


@triton_op("overlock::activated_depthwise", mutates_args=())
def activated_depthwise_triton(
    features: Tensor, added: Tensor, taps: Tensor, bias: Tensor, tile_name: str
) -> tuple[Tensor, Tensor]:
    """Compute; see ``model.kernels.activated_depthwise``, which has checked the shapes.

    Args:
        features: (B, C, H, W) in channels_last.
        added: (C,).
        taps: ``pixel_taps`` of the weight, (9, C).
        bias: (C,).
        tile_name: a key of ``TILES``.

    Returns:
        (B, C, H, W) in channels_last, and each strip's sums of squares, (B, strips, C) float32.
    """
    return _launched(features, added, taps, bias, tile_name, before=True)


@triton_op("overlock::depthwise_gelu", mutates_args=())
def depthwise_gelu_triton(features: Tensor, taps: Tensor, bias: Tensor, tile_name: str) -> Tensor:
    """Compute with GELU behind the convolution; arguments as above, result (B, C, H, W)."""
    return _launched(features, bias, taps, bias, tile_name, before=False)[0]


def _launched(
    features: Tensor, added: Tensor, taps: Tensor, bias: Tensor, tile_name: str, *, before: bool
) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = features.shape
    tile = TILES[tile_name]
    strips = triton.cdiv(height, tile.rows) * triton.cdiv(width, tile.columns)
    result = empty_result(features, torch.channels_last)
    partial_squares = torch.empty(
        (batch, strips if before else 0, channels), dtype=torch.float32, device=features.device
    )
    grid = (strips, triton.cdiv(channels, tile.channels), batch)
    wrap_triton(_activated_depthwise_kernel)[grid](
        features,
        features.stride(0),
        features.stride(2),
        features.stride(3),
        added,
        taps,
        bias,
        result,
        partial_squares,
        channels,
        height,
        width,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        CHANNELS=tile.channels,
        ALIGNED=math.gcd(16, channels, features.stride(0), features.stride(2), features.stride(3)),
        SHORT=features.dtype.itemsize == 2,
        BEFORE=before,
        num_warps=tile.warps,
    )
    return result, partial_squares
