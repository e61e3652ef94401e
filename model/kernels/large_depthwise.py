"""Depthwise convolutions with large kernels, optionally with the sums that squeeze-excite needs.

Stride 1, the map keeps its size. "plain" is PyTorch's own convolution (cuDNN's on a GPU); the
others are tiles of a Triton kernel for maps in the channels_last memory format. Which is fastest
depends on shape and device, and is measured: see ``KernelChoices``.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from model.kernels.choices import KernelChoices, Problem
from model.kernels.depthwise_taps import CHANNEL_MULTIPLE
from model.kernels.large_depthwise_reference import channel_sums, large_depthwise_reference
from model.kernels.triton_obstacle import TRITON_INSTALLED, triton_obstacle

# Triton's operators bring PyTorch's compiler along: two seconds that a CPU need not wait.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.large_depthwise_triton import large_depthwise_triton

TritonTile = Literal["small", "large", "wide"]
Implementation = Literal["plain", "small", "large", "wide"]
TRITON_TILES: tuple[TritonTile, ...] = get_args(TritonTile)

Choice = Implementation | KernelChoices
"""An explicit wish, or the table that knows; an unmeasured problem is solved by "plain"."""


def large_depthwise(
    features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, choice: Choice
) -> Tensor:
    """Convolve every channel with a kernel of its own.

    Args:
        features: (B, C, H, W).
        weight: in the features' dtype, (C, 1, K, K), odd K.
        bias: in the features' dtype, (C,).
        taps: ``tap_major(weight)``, what the Triton kernel reads.
        choice: who computes.

    Returns:
        (B, C, H, W), in the dtype and memory format of ``features``.

    Raises:
        ValueError: if the shapes do not fit, or the implementation wished for does not run here.
    """
    _check_shapes(features, weight, bias, taps)
    implementation = _implementation(choice, features, weight, bias, taps, with_sums=False)
    if implementation == "plain":
        return large_depthwise_reference(features, weight, bias)
    convolved, _ = large_depthwise_triton(features, taps, bias, False, implementation)
    return cast("Tensor", convolved)


def large_depthwise_with_sums(
    features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, choice: Choice
) -> tuple[Tensor, Tensor]:
    """Convolve as ``large_depthwise`` does, and sum each image's channels in the same pass.

    Returns:
        The convolved features, (B, C, H, W), and their sum over the pixels, (B, C), at least in
        float32 and the same at every run.
    """
    _check_shapes(features, weight, bias, taps)
    implementation = _implementation(choice, features, weight, bias, taps, with_sums=True)
    if implementation == "plain":
        convolved = large_depthwise_reference(features, weight, bias)
        return convolved, channel_sums(convolved)
    convolved, partial_sums = large_depthwise_triton(features, taps, bias, True, implementation)
    return convolved, partial_sums.sum(dim=1)  # (B, tiles, C) -> (B, C)


def depthwise_problem(features: Tensor, kernel_size: int, *, with_sums: bool) -> Problem:
    """Name what decides how long the convolution takes; see ``model.kernels.choices``.

    Of the batch it is whether there is more than one image: a compiled graph serves all larger
    batches, and has one answer for them.
    """
    operation = "large_depthwise_with_sums" if with_sums else "large_depthwise"
    images = "one" if features.shape[0] == 1 else "many"
    device = features.device.type
    return (operation, images, *features.shape[1:], kernel_size, features.dtype, device)


def _implementation(
    choice: Choice,
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    taps: Tensor,
    *,
    with_sums: bool,
) -> str:
    if choice == "plain":
        return choice
    obstacle = triton_obstacle(features, taps, bias)
    if obstacle is None and not features.is_contiguous(memory_format=torch.channels_last):
        obstacle = "the features are not in the channels_last memory format"
    if isinstance(choice, KernelChoices):
        if obstacle is not None:
            return "plain"
        problem = depthwise_problem(features, weight.shape[-1], with_sums=with_sums)
        return choice.fastest(problem, default="plain")
    if obstacle is not None:
        raise ValueError(f"The Triton depthwise kernel was asked for, but {obstacle}.")
    return choice


def _check_shapes(features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor) -> None:
    channels, kernel_size = features.shape[1], weight.shape[-1]
    if weight.shape != (channels, 1, kernel_size, kernel_size) or kernel_size % 2 == 0:
        raise ValueError(
            f"A weight of {channels} channels is ({channels}, 1, K, K) with an odd K, "
            f"not {tuple(weight.shape)}."
        )
    filled_up = channels + -channels % CHANNEL_MULTIPLE
    if taps.shape != (kernel_size + 2, kernel_size, filled_up):
        raise ValueError(
            f"Taps of that weight are {(kernel_size + 2, kernel_size, filled_up)}, "
            f"not {tuple(taps.shape)}."
        )
    if bias.shape != (channels,):
        raise ValueError(f"The bias of {channels} channels is not {tuple(bias.shape)}.")
