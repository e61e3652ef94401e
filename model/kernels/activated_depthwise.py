"""3x3 depthwise convolutions with a GELU before or behind them.

The one before is the middle of a feed-forward part, which also adds up the squares that the
response norm behind it needs. "plain" is PyTorch's operators; the tiles are those of a Triton
kernel, which reads and writes the map once. The faster one is measured: see ``Autotuner``.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.gpu.selection import Choice, map_problem, selected
from model.kernels.gpu.support import TRITON_INSTALLED
from model.kernels.response_norm import sums_of_squares
from model.kernels.scaled_product import as_rows

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.activated_depthwise import (
        activated_depthwise_triton,
        depthwise_gelu_triton,
    )

OPERATION = "activated_depthwise"
GELU_BEHIND = "depthwise_gelu"
"""Names of their problems in an ``Autotuner``."""


def activated_depthwise(
    features: Tensor, added: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, choice: Choice
) -> tuple[Tensor, Tensor]:
    """Add a bias, apply GELU, and convolve every channel with a 3x3 kernel of its own.

    Outside of the map are zeros behind the GELU.

    Args:
        features: (B, C, H, W).
        added: the bias in front of the GELU, (C,).
        weight: in the features' dtype, (C, 1, 3, 3).
        bias: of the convolution, (C,).
        taps: ``pixel_taps(weight)``, read by the Triton kernel.
        choice: the implementation.

    Returns:
        (B, C, H, W), in the dtype and memory format of ``features``, and partial sums of its
        squares over the pixels, (B, parts, C), at least in float32 and the same at every run.

    Raises:
        ValueError: if shapes are inconsistent, or the requested implementation does not run here.
    """
    _check_shapes(features, weight, taps, added, bias)
    problem = map_problem(OPERATION, features)
    implementation = selected(choice, problem, (features, added, taps, bias), features)
    if implementation == "plain":
        convolved = activated_depthwise_reference(features, added, weight, bias)
        return convolved, sums_of_squares(as_rows(convolved))
    result = activated_depthwise_triton(features, added, taps, bias, implementation)
    return cast("tuple[Tensor, Tensor]", result)


def activated_depthwise_reference(
    features: Tensor, added: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Compute ``conv(gelu(features + added)) + bias``; arguments as above."""
    activated = F.gelu(features + added.view(1, -1, 1, 1))
    return F.conv2d(activated, weight, bias, padding=1, groups=features.shape[1])


def depthwise_gelu(
    features: Tensor, weight: Tensor, bias: Tensor, taps: Tensor, choice: Choice
) -> Tensor:
    """Convolve every channel with a 3x3 kernel of its own, and apply GELU.

    Args:
        features: (B, C, H, W).
        weight: in the features' dtype, (C, 1, 3, 3).
        bias: of the convolution, (C,).
        taps: ``pixel_taps(weight)``, read by the Triton kernel.
        choice: the implementation.

    Returns:
        (B, C, H, W), in the dtype and memory format of ``features``.

    Raises:
        ValueError: if shapes are inconsistent, or the requested implementation does not run here.
    """
    _check_shapes(features, weight, taps, bias)
    problem = map_problem(GELU_BEHIND, features)
    implementation = selected(choice, problem, (features, taps, bias), features)
    if implementation == "plain":
        return F.gelu(F.conv2d(features, weight, bias, padding=1, groups=features.shape[1]))
    return cast("Tensor", depthwise_gelu_triton(features, taps, bias, implementation))


def pixel_taps(weight: Tensor) -> Tensor:
    """Lay a depthwise weight (C, 1, K, K) out with neighbouring channels side by side, (K*K, C)."""
    return weight.flatten(1).t().contiguous()


def _check_shapes(features: Tensor, weight: Tensor, taps: Tensor, *vectors: Tensor) -> None:
    channels = features.shape[1]
    wanted = {(channels, 1, 3, 3): weight, (9, channels): taps}
    for shape, tensor in wanted.items():
        if tensor.shape != shape:
            raise ValueError(
                f"A 3x3 kernel of {channels} channels is {shape}, not {tuple(tensor.shape)}."
            )
    for tensor in vectors:
        if tensor.shape != (channels,):
            raise ValueError(f"The bias of {channels} channels is not {tuple(tensor.shape)}.")
