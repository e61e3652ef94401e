"""Arguments for the implementations of the large depthwise convolution."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.kernels.gpu.depthwise_layout import lay_out


class DepthwiseArguments(NamedTuple):
    """Arguments of ``large_depthwise``."""

    features: Tensor
    weight: Tensor
    bias: Tensor
    taps: Tensor


def depthwise_arguments(
    batch: int,
    channels: int,
    height: int,
    width: int,
    kernel_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> DepthwiseArguments:
    """Make features in channels_last, weight and bias of normal values; sums come near 1."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(channels, 1, kernel_size, kernel_size, generator=generator) / kernel_size
    bias = torch.randn(channels, generator=generator)
    features = features.to(device, dtype).contiguous(memory_format=torch.channels_last)
    weight = weight.to(device, dtype)
    return DepthwiseArguments(features, weight, bias.to(device, dtype), lay_out(weight))
