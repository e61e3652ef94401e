# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""The response norm as one GPU kernel: sums, roots, mean, quotients, and the rows they scale.

Counts: docs/kernels.md.
"""

from __future__ import annotations

import math

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.scaled_rows import TILES, WARPS, channel_totals, constants, store_scaled


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["parts", "count"])  # type: ignore[untyped-decorator,unused-ignore]
def _response_norm_kernel(  # type: ignore[no-untyped-def]
    rows,
    partial_squares,
    gamma,
    beta,
    result,
    parts,
    count,
    channels,
    ROWS: tl.constexpr,
    HELD: tl.constexpr,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ALIGNED: tl.constexpr,
    SHARED: tl.constexpr,
    SQUARED: tl.constexpr,
):
    """Scale rows of an image. Axes: blocks of rows; images."""
    # Shows the compiler that vectors do not straddle: see _large_depthwise_kernel.
    channels = channels // ALIGNED * ALIGNED
    image = tl.program_id(1).to(tl.int64)  # a batch may hold more than 2^31 numbers
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < channels
    partial_squares += image * parts * channels
    squares = channel_totals(partial_squares, parts, channels, PARTS, CHANNELS, SQUARED)
    energy = tl.sqrt(squares)
    relative = energy / (tl.sum(energy, axis=0) / channels + 1e-6)
    weight = tl.load(gamma + channel, mask=is_channel, other=0.0).to(tl.float32)
    shift = tl.load(beta + channel, mask=is_channel, other=0.0).to(tl.float32)
    if not SHARED:
        rows += image * count * channels
    store_scaled(
        rows,
        rows,
        result + image * count * channels,
        1 + weight * relative,
        shift,
        tl.program_id(0) * ROWS,
        count,
        channels,
        ROWS,
        HELD,
        CHANNELS,
        GATED=False,
    )


@triton_op("overlock::response_norm", mutates_args=())
def response_norm_triton(
    rows: Tensor, squares: Tensor | None, gamma: Tensor, beta: Tensor, tile_name: str
) -> Tensor:
    """Scale each image's rows; same arguments and result as ``response_norm``.

    ``tile_name`` is a key of ``scaled_rows.TILES``.
    """
    rows = rows.contiguous()
    partial = rows if squares is None else squares.contiguous()
    (images, parts, channels), count = partial.shape, rows.shape[1]
    result = torch.empty((images, count, channels), dtype=rows.dtype, device=rows.device)
    wrap_triton(_response_norm_kernel)[(triton.cdiv(count, TILES[tile_name]), images)](
        rows,
        partial,
        gamma,
        beta,
        result,
        parts,
        count,
        channels,
        **constants(tile_name, channels),
        ALIGNED=math.gcd(16, channels),
        SHARED=rows.shape[0] == 1,
        SQUARED=squares is None,
        num_warps=WARPS,
    )
    return result
