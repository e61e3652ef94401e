# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""Squeeze-excite's gates as one GPU kernel: both layers, GELU and sigmoid.

A program computes the gates of one image. It loops over blocks of hidden channels: a block's
activations need all channels' means, and add a share to every gate. Counts: docs/kernels.md.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

from model.kernels.gpu.activations import gelu

HIDDEN_BLOCK = 16
"""Hidden channels of a block; no network has fewer."""

WARPS = 8
"""Warps of a program: each thread holds 32 numbers of a block's matrix of 512 channels."""


# A size of a dense input is often a new one: it must not ask for a compilation under traffic.
@triton.jit(do_not_specialize=["pixels"])  # type: ignore[untyped-decorator,unused-ignore]
def _squeeze_excite_kernel(  # type: ignore[no-untyped-def]
    sums,
    reduce,
    reduce_bias,
    expand,
    expand_bias,
    gates,
    pixels,
    channels,
    hidden_channels,
    CHANNELS: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """Compute the gates of an image. Axis: images."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    is_channel = channel < channels
    means = tl.load(sums + image * channels + channel, mask=is_channel, other=0.0) / pixels
    gate = tl.load(expand_bias + channel, mask=is_channel, other=0.0).to(tl.float32)
    for first in tl.range(0, hidden_channels, HIDDEN):
        hidden = first + tl.arange(0, HIDDEN)
        is_hidden = hidden < hidden_channels
        entry = hidden[:, None] * channels + channel[None, :]
        is_entry = is_hidden[:, None] & is_channel[None, :]
        to_hidden = tl.load(reduce + entry, mask=is_entry, other=0.0).to(tl.float32)
        to_gates = tl.load(expand + entry, mask=is_entry, other=0.0).to(tl.float32)
        added = tl.load(reduce_bias + hidden, mask=is_hidden, other=0.0).to(tl.float32)
        reduced = tl.sum(to_hidden * means[None, :], axis=1) + added
        gate += tl.sum(to_gates * gelu(reduced)[:, None], axis=0)
    opened = (1 / (1 + tl.exp(-gate))).to(gates.dtype.element_ty)
    tl.store(gates + image * channels + channel, opened, mask=is_channel)


@triton_op("overlock::squeeze_excite_gates", mutates_args=())
def squeeze_excite_gates_triton(
    sums: Tensor,
    pixels: int,
    reduce: Tensor,
    reduce_bias: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
) -> Tensor:
    """Compute each image's gates; same arguments and result as ``squeeze_excite_gates``."""
    hidden_channels, channels = reduce.shape
    gates = torch.empty((sums.shape[0], channels), dtype=reduce.dtype, device=sums.device)
    wrap_triton(_squeeze_excite_kernel)[(sums.shape[0],)](
        sums.contiguous(),
        reduce,
        reduce_bias,
        expand,
        expand_bias,
        gates,
        pixels,
        channels,
        hidden_channels,
        CHANNELS=triton.next_power_of_2(channels),
        HIDDEN=HIDDEN_BLOCK,
        num_warps=WARPS,
    )
    return gates
