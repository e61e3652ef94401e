"""Depthwise convolutions with large kernels, optionally with the sums that squeeze-excite needs.

Stride 1, the map keeps its size. Two implementations: PyTorch's own convolution, and a Triton
kernel for maps in the channels_last memory format. Which is faster depends on the shape.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from model.kernels.depthwise_taps import CHANNEL_MULTIPLE
from model.kernels.large_depthwise_reference import channel_sums, large_depthwise_reference
from model.kernels.triton_obstacle import TRITON_INSTALLED, triton_obstacle

# Triton's operators bring PyTorch's compiler along: two seconds that a CPU need not wait.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.large_depthwise_triton import large_depthwise_triton

Implementation = Literal["auto", "plain", "triton"]


def large_depthwise(
    features: Tensor, taps: Tensor, bias: Tensor, *, implementation: Implementation = "auto"
) -> Tensor:
    """Convolve every channel with a kernel of its own.

    Args:
        features: (B, C, H, W).
        taps: ``tap_major`` of the weight.
        bias: (C,).
        implementation: "auto" takes the Triton kernel where it runs and PyTorch's elsewhere.

    Returns:
        (B, C, H, W), in the dtype and memory format of ``features``.

    Raises:
        ValueError: if the shapes do not fit, or the implementation asked for does not run here.
    """
    _check_shapes(features, taps, bias)
    if _takes_triton(implementation, features, taps, bias):
        convolved, _ = large_depthwise_triton(features, taps, bias, with_sums=False)
        return cast("Tensor", convolved)
    return large_depthwise_reference(features, taps, bias)


def large_depthwise_with_sums(
    features: Tensor, taps: Tensor, bias: Tensor, *, implementation: Implementation = "auto"
) -> tuple[Tensor, Tensor]:
    """Convolve as ``large_depthwise`` does, and sum each image's channels in the same pass.

    Returns:
        The convolved features, (B, C, H, W), and their sum over the pixels, (B, C), at least in
        float32 and the same at every run.
    """
    _check_shapes(features, taps, bias)
    if _takes_triton(implementation, features, taps, bias):
        convolved, partial_sums = large_depthwise_triton(features, taps, bias, with_sums=True)
        return convolved, partial_sums.sum(dim=1)  # (B, tiles, C) -> (B, C)
    convolved = large_depthwise_reference(features, taps, bias)
    return convolved, channel_sums(convolved)


def _check_shapes(features: Tensor, taps: Tensor, bias: Tensor) -> None:
    channels, kernel_size = features.shape[1], taps.shape[1]
    filled_up = channels + -channels % CHANNEL_MULTIPLE
    if taps.shape != (kernel_size + 2, kernel_size, filled_up) or kernel_size % 2 == 0:
        raise ValueError(
            f"Taps of {channels} channels and an odd K are (K + 2, K, {filled_up}), "
            f"not {tuple(taps.shape)}."
        )
    if bias.shape != (channels,):
        raise ValueError(f"The bias of {channels} channels is not {tuple(bias.shape)}.")


def _takes_triton(
    implementation: Implementation, features: Tensor, taps: Tensor, bias: Tensor
) -> bool:
    obstacle = triton_obstacle(features, taps, bias)
    if obstacle is None and not features.is_contiguous(memory_format=torch.channels_last):
        obstacle = "the features are not in the channels_last memory format"
    if implementation == "triton" and obstacle is not None:
        raise ValueError(f"The Triton depthwise kernel was asked for, but {obstacle}.")
    return implementation != "plain" and obstacle is None
