# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""3x3 depthwise convolution and layer norm in one pass over a channels_last map.

A program owns strips, each a column wide and some rows high, with all their channels, and goes down
the rows. It loads a row's pixel with its left and right neighbours, which the first-level cache
serves, and adds them to the sums of the three output rows above, beside and below. A row's sums are
normalised before they are written. Counts: docs/kernels.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.pixel_taps import load_taps
from model.kernels.gpu.support import empty_result


class Tile(NamedTuple):
    """The work of one program.

    Attributes:
        rows: output rows of a strip.
        numbers: in one row of its strips, all channels with padding; at least one strip's.
        warps: warps of 32 threads.
    """

    rows: int
    numbers: int
    warps: int


TILES = {
    "few": Tile(rows=1, numbers=1024, warps=4),
    "many": Tile(rows=7, numbers=2048, warps=4),
}
"""Candidates to measure: small programs keep a device busy with one image, high strips load the
rows at their ends less often. The maps of a 224x224 image are 56, 28, 14 and 7 rows high."""


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["height", "width", "strips"])  # type: ignore[untyped-decorator,unused-ignore]
def _position_norm_kernel(  # type: ignore[no-untyped-def]
    features,
    features_b,
    features_h,
    features_w,
    taps,
    bias,
    norm_weight,
    norm_bias,
    scale,
    shift,
    context,
    context_scale,
    scaled,
    normalised,
    channels,
    context_channels,
    height,
    width,
    strips,
    ROWS: tl.constexpr,
    STRIPS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ALIGNED: tl.constexpr,
    GUIDED: tl.constexpr,
):
    """Convolve and normalise ``STRIPS`` strips. Axis: blocks of strips. The channel stride is 1."""
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    channels = channels // ALIGNED * ALIGNED
    context_channels = context_channels // ALIGNED * ALIGNED
    features_b = features_b // ALIGNED * ALIGNED
    features_h = features_h // ALIGNED * ALIGNED
    features_w = features_w // ALIGNED * ALIGNED
    strip_rows = tl.cdiv(height, ROWS)
    first = tl.program_id(0) * STRIPS
    strip = first + tl.arange(0, STRIPS)
    is_strip = strip < strips
    column = strip % width
    first_row = strip // width % strip_rows * ROWS
    # Offsets from the first strip's image fit 32 bits: the others are only a few images away.
    first_image = first // (strip_rows * width)
    image_offset = strip // (strip_rows * width) - first_image
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < channels
    features += first_image.to(tl.int64) * features_b
    result = first_image.to(tl.int64) * height * width * channels  # dense
    stretched = tl.load(norm_weight + channel, mask=is_channel, other=0.0).to(tl.float32)
    moved = tl.load(norm_bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    if GUIDED:
        context += first_image.to(tl.int64) * height * width * context_channels  # dense, too
    added = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    begun = tl.zeros([STRIPS, CHANNELS], tl.float32) + added[None, :]

    # The sums of the output row that an input row ends, and of the one that it continues.
    ended, continued = begun, begun
    for step in tl.range(0, ROWS + 2):
        row = first_row + step - 1
        beginning = begun
        for x in tl.static_range(3):
            from_column = column + x - 1
            inside = (row >= 0) & (row < height) & (from_column >= 0) & (from_column < width)
            place = image_offset * features_b + row * features_h + from_column * features_w
            values = tl.load(
                features + place[:, None] + channel[None, :],
                mask=(inside & is_strip)[:, None] & is_channel[None, :],
                other=0.0,
            ).to(tl.float32)
            above, beside, below = load_taps(taps + channel, x, channels, is_channel)
            ended += values * below[None, :]
            continued += values * beside[None, :]
            beginning += values * above[None, :]
        if step >= 2:
            is_output = (is_strip & (row - 1 < height))[:, None] & is_channel[None, :]
            pixel = (image_offset * height + row - 1) * width + column
            target = result + pixel[:, None] * channels + channel[None, :]
            factor = tl.load(scale + channel, mask=is_channel, other=0.0).to(tl.float32)
            constant = tl.load(shift + channel, mask=is_channel, other=0.0).to(tl.float32)
            stored = ended * factor[None, :] + constant[None, :]
            if GUIDED:
                source = channel - (channels - context_channels)
                is_guided = is_channel & (source >= 0)
                weight = tl.load(context_scale + source, mask=is_guided, other=0.0)
                own = context + pixel[:, None] * context_channels + source[None, :]
                guidance = tl.load(own, mask=is_output & is_guided[None, :], other=0.0)
                stored += guidance.to(tl.float32) * weight.to(tl.float32)[None, :]
            tl.store(scaled + target, stored.to(scaled.dtype.element_ty), mask=is_output)
            mean = tl.sum(ended, axis=1) / channels  # the padding's sums are zeros
            centred = tl.where(is_channel[None, :], ended - mean[:, None], 0.0)
            deviation = tl.sqrt(tl.sum(centred * centred, axis=1) / channels + 1e-6)
            norm = centred * (1 / deviation)[:, None] * stretched[None, :] + moved[None, :]
            tl.store(normalised + target, norm.to(normalised.dtype.element_ty), mask=is_output)
        ended, continued = continued, beginning


@triton_op("overlock::position_norm", mutates_args=())
def position_norm_triton(
    features: Tensor,
    taps: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    context: Tensor | None,
    context_scale: Tensor | None,
    tile_name: str,
) -> tuple[Tensor, Tensor]:
    """Compute; see ``model.kernels.position_norm``, which has checked the shapes.

    Args:
        features: (B, C, H, W) in channels_last.
        taps: ``pixel_taps`` of the weight, (9, C).
        bias: (C,).
        norm_weight: (C,).
        norm_bias: (C,).
        scale: (C,).
        shift: (C,).
        context: (B, C_context, H, W), or None.
        context_scale: (C_context,), or None.
        tile_name: a key of ``TILES``.

    Returns:
        The scaled and the normalised features, both (B, C, H, W) in channels_last.
    """
    batch, channels, height, width = features.shape
    tile = TILES[tile_name]
    padded_channels = triton.next_power_of_2(channels)
    block = max(1, tile.numbers // padded_channels)
    strips = batch * triton.cdiv(height, tile.rows) * width
    if context is None or context_scale is None:
        guidance, context_channels = (features, scale), channels
    else:
        context = context.contiguous(memory_format=torch.channels_last)
        guidance, context_channels = (context, context_scale), context.shape[1]
    scaled = empty_result(features, torch.channels_last)
    normalised = empty_result(features, torch.channels_last)
    # not triton.cdiv: to the compiler the batch is a symbol
    wrap_triton(_position_norm_kernel)[((strips + block - 1) // block,)](
        features,
        features.stride(0),
        features.stride(2),
        features.stride(3),
        taps,
        bias,
        norm_weight,
        norm_bias,
        scale,
        shift,
        *guidance,
        scaled,
        normalised,
        channels,
        context_channels,
        height,
        width,
        strips,
        ROWS=tile.rows,
        STRIPS=block,
        CHANNELS=padded_channels,
        ALIGNED=math.gcd(
            16,
            channels,
            context_channels,
            features.stride(0),
            features.stride(2),
            features.stride(3),
        ),
        GUIDED=context is not None,
        num_warps=tile.warps,
    )
    return scaled, normalised
