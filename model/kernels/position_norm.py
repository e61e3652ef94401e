"""A block's entry: the residual 3x3 depthwise convolution, and the layer norm behind it.

"plain" is PyTorch's operators; the tiles are those of a Triton kernel, which reads the map once and
writes both results. The faster one is measured: see ``Autotuner``.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.gpu.selection import Choice, map_problem, selected
from model.kernels.gpu.support import TRITON_INSTALLED

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.position_norm import position_norm_triton

OPERATION = "position_norm"
"""Name of its problems in an ``Autotuner``."""


def position_norm(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    taps: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    choice: Choice,
    context: Tensor | None = None,
    context_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve every channel with a 3x3 kernel of its own, and normalise each pixel's channels.

    Also scale what was convolved, for a sum around the layers that the normalised features enter.

    Args:
        features: (B, C, H, W).
        weight: in the features' dtype, (C, 1, 3, 3); a residual one has the 1 in its centre.
        bias: of the convolution, (C,).
        taps: ``pixel_taps(weight)``, read by the Triton kernel.
        norm_weight: of the layer norm, (C,).
        norm_bias: of the layer norm, (C,).
        scale: of the convolved features, (C,).
        shift: added behind the scale, (C,).
        choice: the implementation.
        context: added to the last channels behind the scale, (B, C_context, H, W).
        context_scale: of the context, (C_context,).

    Returns:
        The scaled and the normalised features, both (B, C, H, W), in the dtype and memory format of
        ``features``.

    Raises:
        ValueError: if shapes are inconsistent, or the requested implementation does not run here.
    """
    channels = features.shape[1]
    if weight.shape != (channels, 1, 3, 3) or taps.shape != (9, channels):
        raise ValueError(
            f"A 3x3 kernel of {channels} channels is {(channels, 1, 3, 3)} with taps "
            f"{(9, channels)}, not {tuple(weight.shape)} with {tuple(taps.shape)}."
        )
    for tensor in (bias, norm_weight, norm_bias, scale, shift):
        if tensor.shape != (channels,):
            raise ValueError(f"A tensor of {channels} channels is not {tuple(tensor.shape)}.")
    contexts = tuple(each for each in (context, context_scale) if each is not None)
    if contexts:
        _check_context(features, *contexts)
    tensors = (features, taps, bias, norm_weight, norm_bias, scale, shift, *contexts)
    implementation = selected(choice, map_problem(OPERATION, features), tensors, features)
    if implementation == "plain":
        vectors = (norm_weight, norm_bias, scale, shift)
        return position_norm_reference(features, weight, bias, *vectors, *contexts)
    result = position_norm_triton(*tensors[:7], context, context_scale, implementation)
    return cast("tuple[Tensor, Tensor]", result)


def _check_context(features: Tensor, context: Tensor, *scales: Tensor) -> None:
    batch, channels, *size = features.shape
    added = context.shape[1:2]
    fits = context.shape == (batch, *added, *size) and [scale.shape for scale in scales] == [added]
    if not fits or added[0] > channels:
        shapes = [tuple(each.shape) for each in (context, *scales)]
        raise ValueError(
            f"No context of {tuple(features.shape)} features, and its scale: {shapes}."
        )


def position_norm_reference(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    context: Tensor | None = None,
    context_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Do as ``position_norm``, by PyTorch's operators."""
    convolved = F.conv2d(features, weight, bias, padding=1, groups=features.shape[1])
    pixels = convolved.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
    pixels = F.layer_norm(pixels, norm_weight.shape, norm_weight, norm_bias, eps=1e-6)
    scaled = torch.addcmul(shift.view(1, -1, 1, 1), convolved, scale.view(1, -1, 1, 1))
    if context is not None and context_scale is not None:
        guidance = context * context_scale.view(1, -1, 1, 1)
        own, guided = scaled.tensor_split([features.shape[1] - context.shape[1]], dim=1)
        scaled = torch.cat((own, guided + guidance), dim=1)
    return scaled, pixels.permute(0, 3, 1, 2)
