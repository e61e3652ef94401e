# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""The response norm's scales as one GPU kernel: sums, roots, mean and quotients.

A program computes the scales of one image. Counts: docs/kernels.md.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

NUMBERS = 4096
"""Numbers of a block of partial sums; each thread holds 16."""

WARPS = 8


# The number of parts grows with a dense input's size, which is often a new one: it must not ask
# for a compilation under traffic.
@triton.jit(do_not_specialize=["parts"])  # type: ignore[untyped-decorator,unused-ignore]
def _response_scale_kernel(  # type: ignore[no-untyped-def]
    partial_squares,
    gamma,
    scales,
    parts,
    channels,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Compute the scales of an image. Axis: images."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < channels
    part = tl.arange(0, PARTS)
    partial_squares += image * parts * channels
    partial_squares += part[:, None] * channels + channel[None, :]
    squares = tl.zeros([PARTS, CHANNELS], tl.float32)
    for first in tl.range(0, parts, PARTS):
        mask = (first + part < parts)[:, None] & is_channel[None, :]
        squares += tl.load(partial_squares + first * channels, mask=mask, other=0.0)
    energy = tl.sqrt(tl.sum(squares, axis=0))
    relative = energy / (tl.sum(energy, axis=0) / channels + 1e-6)
    weight = tl.load(gamma + channel, mask=is_channel, other=0.0).to(tl.float32)
    tl.store(scales + image * channels + channel, 1 + weight * relative, mask=is_channel)


@triton_op("overlock::response_scale", mutates_args=())
def response_scale_triton(partial_squares: Tensor, gamma: Tensor) -> Tensor:
    """Compute each image's scales; same arguments and result as ``response_scale``."""
    batch, parts, channels = partial_squares.shape
    scales = torch.empty((batch, channels), dtype=torch.float32, device=partial_squares.device)
    padded_channels = triton.next_power_of_2(channels)
    wrap_triton(_response_scale_kernel)[(batch,)](
        partial_squares.contiguous(),
        gamma,
        scales,
        parts,
        channels,
        PARTS=max(1, NUMBERS // padded_channels),
        CHANNELS=padded_channels,
        num_warps=WARPS,
    )
    return scales
