"""The CPU kernels as functions of tensors, tested against the layers of ``model.backbone``.

Maps are (B, H, W, C), contiguous, float32 or bfloat16. Sums, norms, gates and softmaxes run in
float32 for both; parameters are float32 (ContMix's keys have the map's dtype, as have a
convolution's taps where they are paired; elsewhere they are rounded to it). Functions with
a trailing underscore work in place.

For inference only: no gradient, no torch.compile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.cpu.launch import launch
from model.kernels.cpu.library import native_library

MIXING_KERNELS = range(3, 21, 2)
"""Kernel sizes that the ContMix kernel is compiled for: all that a variant can have."""

LOG2_E = math.log2(math.e)
NO_WEIGHT = -1e30
"""Logit of a padding tap; finite, so that it never makes a NaN."""


def lanes() -> int:
    """Return how many channels (or taps) are in a vector; parameters are padded to a multiple."""
    return int(native_library().overlock_lanes())


class Statistic(IntEnum):
    """A per-channel sum over the pixels that a kernel computes beside its result."""

    NONE = 0
    SUMS = 1
    SQUARES = 2


@dataclass(frozen=True)
class DepthwiseTaps:
    """A depthwise kernel in the layout that the convolution reads.

    Attributes:
        taps: (C / L, K, K, L) for L ``lanes``, for bfloat16 in pairs (C / L, K, (K + 1) / 2, L, 2).
        bias: (C,) float32; both are padded with zeros to a multiple of L channels.
        channels: C.
        kernel_size: K, odd.
        residual: whether the input map is added to the result.
    """

    taps: Tensor
    bias: Tensor
    channels: int
    kernel_size: int
    residual: bool

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, residual: bool = False
    ) -> DepthwiseTaps:
        """Lay a convolution's weight (C, 1, K, K) and bias (C,) out."""
        channels, kernel_size = weight.shape[0], weight.shape[-1]
        paired = dtype == torch.bfloat16 and bool(native_library().overlock_paired())
        missing = -channels % lanes()
        padded = F.pad(
            weight[:, 0].float(), (0, kernel_size % 2 if paired else 0, 0, 0, 0, missing)
        )
        taps = padded.unflatten(0, (-1, lanes())).permute(0, 2, 3, 1)  # (C/L, K, K', L)
        if paired:
            taps = taps.unflatten(2, (-1, 2)).transpose(3, 4).to(dtype)
        else:
            taps = taps.to(dtype).float()
        return cls(
            taps.contiguous(), F.pad(bias.float(), (0, missing)), channels, kernel_size, residual
        )


def depthwise(
    pixels: Tensor,
    taps: DepthwiseTaps,
    *,
    activated: bool = False,
    statistic: Statistic = Statistic.NONE,
) -> tuple[Tensor, Tensor]:
    """Convolve every channel with its own kernel, stride 1, zeros outside.

    Args:
        pixels: (B, H, W, C).
        taps: kernel, bias and residual.
        activated: whether GELU follows.
        statistic: which sum over the result to return.

    Returns:
        (B, H, W, C), and the statistic of every channel of every image, (B, C) float32,
        uninitialised for ``Statistic.NONE``.
    """
    batch, height, width, channels = _shape(pixels)
    assert channels == taps.channels
    result = torch.empty_like(pixels)
    statistics = torch.empty((batch, channels))
    launch(
        "overlock_depthwise",
        pixels.data_ptr(),
        taps.taps.data_ptr(),
        taps.bias.data_ptr(),
        result.data_ptr(),
        statistics.data_ptr(),
        batch,
        height,
        width,
        channels,
        taps.kernel_size,
        is_bfloat16(pixels),
        taps.residual,
        activated,
        statistic,
    )
    return result, statistics


def layer_norm(pixels: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None = None) -> Tensor:
    """Normalise every pixel over its channels, eps 1e-6.

    Args:
        pixels: (B, H, W, C); multiplied by ``scale``, if given, in place afterwards.
        weight: (C,) float32.
        bias: (C,) float32.
        scale: (C,) float32.

    Returns:
        (B, H, W, C).
    """
    batch, height, width, channels = _shape(pixels)
    result = torch.empty_like(pixels)
    launch(
        "overlock_layer_norm",
        pixels.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        result.data_ptr(),
        None if scale is None else scale.data_ptr(),
        pixels.data_ptr(),
        batch * height * width,
        channels,
        is_bfloat16(pixels),
    )
    return result


def channel_statistic(pixels: Tensor, statistic: Statistic) -> Tensor:
    """Sum every channel of every image, or its squares: (B, H, W, C) -> (B, C) float32."""
    batch, height, width, channels = _shape(pixels)
    result = torch.empty((batch, channels))
    launch(
        "overlock_sums",
        pixels.data_ptr(),
        result.data_ptr(),
        batch,
        height * width,
        channels,
        statistic is Statistic.SQUARES,
        is_bfloat16(pixels),
    )
    return result


def response_norm_(
    pixels: Tensor, squares: Tensor, gamma: Tensor, beta: Tensor | None = None
) -> None:
    """Apply global response norm in place.

    Args:
        pixels: (B, H, W, C).
        squares: ``Statistic.SQUARES`` of ``pixels``, (B, C).
        gamma: (C,) float32.
        beta: (C,) float32; None if it is folded into the next layer.
    """
    batch, height, width, channels = _shape(pixels)
    launch(
        "overlock_response_norm",
        pixels.data_ptr(),
        squares.data_ptr(),
        gamma.data_ptr(),
        None if beta is None else beta.data_ptr(),
        batch,
        height * width,
        channels,
        is_bfloat16(pixels),
    )


@dataclass(frozen=True)
class Excitation:
    """Parameters of squeeze-excite, float32.

    Attributes:
        reduce: (hidden, C).
        reduce_bias: (hidden,).
        expand: transposed, (hidden, C).
        expand_bias: (C,).
    """

    reduce: Tensor
    reduce_bias: Tensor
    expand: Tensor
    expand_bias: Tensor


def excite_(
    pixels: Tensor, sums: Tensor, excitation: Excitation, gate: Tensor | None = None
) -> None:
    """Apply squeeze-excite in place, and multiply by a gate.

    Args:
        pixels: (B, H, W, C).
        sums: ``Statistic.SUMS`` of ``pixels``, (B, C).
        excitation: parameters of the two layers.
        gate: of the shape and dtype of ``pixels``.
    """
    batch, height, width, channels = _shape(pixels)
    assert gate is None or _shape(gate) == pixels.shape
    launch(
        "overlock_excite",
        pixels.data_ptr(),
        sums.data_ptr(),
        excitation.reduce.data_ptr(),
        excitation.reduce_bias.data_ptr(),
        excitation.expand.data_ptr(),
        excitation.expand_bias.data_ptr(),
        None if gate is None else gate.data_ptr(),
        len(excitation.reduce),
        batch,
        height * width,
        channels,
        is_bfloat16(pixels),
    )


def padded_bias_windows(bias: Tensor) -> Tensor:
    """Pad ``position_bias_windows`` (G, K, K, taps) with taps of no weight; scale by log2(e).

    The result is an argument of ``mix_context``.
    """
    missing = -bias.shape[-1] % lanes()
    return F.pad(bias.float() * LOG2_E, (0, missing), value=NO_WEIGHT).contiguous()


def mix_context(
    values: Tensor, queries: Tensor, virtual_keys: Tensor, small_bias: Tensor, large_bias: Tensor
) -> Tensor:
    """Aggregate every pixel's neighbourhood; see ``model.kernels.context_mixing``.

    Args:
        values: (B, H, W, C); H and W at least the large kernel K.
        queries: (B, H, W, Q), scaled.
        virtual_keys: (B, G, k*k + K*K, Q / G), times log2(e): 2^x is a cheaper exponential.
        small_bias: ``padded_bias_windows`` of the small kernel k.
        large_bias: the same of the large kernel K.

    Returns:
        (B, H, W, C).
    """
    batch, height, width, channels = _shape(values)
    groups, small_kernel, large_kernel = len(small_bias), small_bias.shape[1], large_bias.shape[1]
    assert _shape(queries)[:3] == values.shape[:3]
    assert {values.dtype} == {queries.dtype, virtual_keys.dtype}
    assert min(height, width) >= large_kernel
    assert small_kernel in MIXING_KERNELS
    assert large_kernel in MIXING_KERNELS
    virtual_keys = virtual_keys.contiguous()
    result = torch.empty_like(values)
    launch(
        "overlock_context_mixing",
        values.data_ptr(),
        queries.data_ptr(),
        virtual_keys.data_ptr(),
        small_bias.data_ptr(),
        large_bias.data_ptr(),
        result.data_ptr(),
        batch,
        height,
        width,
        channels,
        queries.shape[3],
        groups,
        small_kernel,
        large_kernel,
        is_bfloat16(values),
    )
    return result


def _shape(pixels: Tensor) -> torch.Size:
    assert pixels.is_contiguous()
    return pixels.shape


def is_bfloat16(pixels: Tensor) -> bool:
    """Return the kernels' flag for the map's dtype, float32 or bfloat16."""
    assert pixels.dtype in {torch.bfloat16, torch.float32}, pixels.dtype
    return pixels.dtype == torch.bfloat16
