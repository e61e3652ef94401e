"""The response norm's scale of each channel, from sums of its squares."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from model.kernels.gpu.support import TRITON_INSTALLED, triton_unsupported_reason

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.response_scale import response_scale_triton

MAX_PARTS = 64
"""Most partial sums that the kernel adds up itself, one program an image; more are summed first."""


def response_scale(partial_squares: Tensor, gamma: Tensor) -> Tensor:
    """Compute the factor on each channel of each image: its energy beside the mean channel's.

    On a GPU a Triton kernel does it in one launch.

    Args:
        partial_squares: partial sums of squares over each image's pixels, (B, parts, C), float32
            (float64 for a float64 network).
        gamma: the norm's weight, (C,).

    Returns:
        ``1 + gamma * energy / mean energy``, (B, C), in the dtype of the sums.

    Source: ConvNeXt V2 (arXiv:2301.00808), with the authors' eps inside the division.
    """
    if triton_unsupported_reason(partial_squares, gamma) is None:
        if partial_squares.shape[1] > MAX_PARTS:
            partial_squares = partial_squares.sum(dim=1, keepdim=True)
        return cast("Tensor", response_scale_triton(partial_squares, gamma))
    energy = partial_squares.sum(dim=1).sqrt()
    relative = energy / (energy.mean(dim=1, keepdim=True) + 1e-6)
    return 1 + gamma.to(energy.dtype) * relative
