"""Large-kernel depthwise convolution by PyTorch: what the Triton kernel must equal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def large_depthwise_reference(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel of (B, C, H, W) with its kernel (C, 1, K, K), and add ``bias`` (C,).

    The map keeps its size: outside of it there are zeros.
    """
    return F.conv2d(features, weight, bias, padding=weight.shape[-1] // 2, groups=features.shape[1])


def channel_sums(convolved: Tensor) -> Tensor:
    """Sum the pixels of (B, C, H, W) to (B, C), at least in float32."""
    sum_type = torch.promote_types(convolved.dtype, torch.float32)
    return convolved.sum(dim=(2, 3), dtype=sum_type)
