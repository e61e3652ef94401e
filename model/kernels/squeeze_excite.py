"""Squeeze-excite's gates, from the sums of a map's channels."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.gpu.support import TRITON_INSTALLED, triton_unsupported_reason

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.squeeze_excite import squeeze_excite_gates_triton


def squeeze_excite_gates(
    sums: Tensor,
    pixels: int,
    reduce: Tensor,
    reduce_bias: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
) -> Tensor:
    """Compute the gate that each channel of each image is multiplied by.

    On a GPU a Triton kernel does it in one launch.

    Args:
        sums: channel sums over each image's pixels, (B, C), float32 (float64 for a float64
            network).
        pixels: number of pixels in an image.
        reduce: weight of the layer to the hidden channels, (H, C).
        reduce_bias: its bias, (H,).
        expand: weight of the layer from the hidden channels, transposed, (H, C).
        expand_bias: its bias, (C,).

    Returns:
        Gates, (B, C) in (0, 1), in the weights' dtype, computed in the dtype of the sums.

    Source: arXiv:1709.01507, with OverLoCK's GELU between the layers.
    """
    if triton_unsupported_reason(sums, reduce, reduce_bias, expand, expand_bias) is None:
        gates = squeeze_excite_gates_triton(sums, pixels, reduce, reduce_bias, expand, expand_bias)
        return cast("Tensor", gates)
    weights = (part.to(sums.dtype) for part in (reduce, reduce_bias, expand, expand_bias))
    to_hidden, hidden_bias, to_gates, gates_bias = weights
    hidden = F.gelu(F.linear(sums / pixels, to_hidden, hidden_bias))
    return torch.sigmoid(torch.addmm(gates_bias, hidden, to_gates)).to(reduce.dtype)
