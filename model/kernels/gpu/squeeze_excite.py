# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""Squeeze-excite as one GPU kernel: both layers, GELU, sigmoid, and the rows that are gated.

A program loops over blocks of hidden channels: a block's activations need all channels' means, and
add a share to every gate. Counts: docs/kernels.md.
"""

from __future__ import annotations

import math

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.activations import gelu
from model.kernels.gpu.scaled_rows import TILES, WARPS, channel_totals, constants, store_scaled

HIDDEN_CHANNELS = 16
"""Most hidden channels of a block; no network has fewer."""

HIDDEN_BYTES = 16384
"""Most bytes of either layer in a block; each thread holds 64."""


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["parts", "count", "pixels"])  # type: ignore[untyped-decorator,unused-ignore]
def _squeeze_excite_kernel(  # type: ignore[no-untyped-def]
    rows,
    partial_sums,
    reduce,
    reduce_bias,
    expand,
    expand_bias,
    gate,
    result,
    parts,
    count,
    pixels,
    channels,
    hidden_channels,
    ROWS: tl.constexpr,
    HELD: tl.constexpr,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    HIDDEN: tl.constexpr,
    ALIGNED: tl.constexpr,
    SHARED: tl.constexpr,
    GATED: tl.constexpr,
):
    """Gate rows of an image. Axes: blocks of rows; images."""
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    channels = channels // ALIGNED * ALIGNED
    image = tl.program_id(1).to(tl.int64)  # a batch may hold more than 2^31 numbers
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < channels
    partial_sums += image * parts * channels
    sums = channel_totals(partial_sums, parts, channels, PARTS, CHANNELS, SQUARED=False)
    means = sums / pixels
    opening = tl.load(expand_bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    for first in tl.range(0, hidden_channels, HIDDEN):
        hidden = first + tl.arange(0, HIDDEN)
        is_hidden = hidden < hidden_channels
        entry = hidden[:, None] * channels + channel[None, :]
        is_entry = is_hidden[:, None] & is_channel[None, :]
        to_hidden = tl.load(reduce + entry, mask=is_entry, other=0.0).to(tl.float32)
        to_gates = tl.load(expand + entry, mask=is_entry, other=0.0).to(tl.float32)
        added = tl.load(reduce_bias + hidden, mask=is_hidden, other=0.0).to(tl.float32)
        reduced = tl.sum(to_hidden * means[None, :], axis=1) + added
        opening += tl.sum(to_gates * gelu(reduced)[:, None], axis=0)
    place = image * count * channels
    if not SHARED:
        rows += place
    store_scaled(
        rows,
        gate + place,
        result + place,
        1 / (1 + tl.exp(-opening)),
        tl.zeros([CHANNELS], tl.float32),
        tl.program_id(0) * ROWS,
        count,
        channels,
        ROWS,
        HELD,
        CHANNELS,
        GATED,
    )


@triton_op("overlock::squeeze_excite", mutates_args=())
def squeeze_excite_triton(
    rows: Tensor,
    sums: Tensor | None,
    pixels: int,
    reduce: Tensor,
    reduce_bias: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    gate: Tensor | None,
    tile_name: str,
) -> Tensor:
    """Gate each image's rows; same arguments and result as ``squeeze_excite``.

    ``tile_name`` is a key of ``scaled_rows.TILES``.
    """
    rows = rows.contiguous()
    partial = rows if sums is None else sums.contiguous()
    (images, parts, channels), count = partial.shape, rows.shape[1]
    result = torch.empty((images, count, channels), dtype=rows.dtype, device=rows.device)
    sizes = constants(tile_name, channels)
    wrap_triton(_squeeze_excite_kernel)[(triton.cdiv(count, TILES[tile_name]), images)](
        rows,
        partial,
        reduce,
        reduce_bias,
        expand,
        expand_bias,
        rows if gate is None else gate.contiguous(),
        result,
        parts,
        count,
        pixels,
        channels,
        reduce.shape[0],
        **sizes,
        HIDDEN=min(HIDDEN_CHANNELS, HIDDEN_BYTES // (sizes["CHANNELS"] * reduce.itemsize)),
        ALIGNED=math.gcd(16, channels),
        SHARED=rows.shape[0] == 1,
        GATED=gate is not None,
        num_warps=WARPS,
    )
    return result
