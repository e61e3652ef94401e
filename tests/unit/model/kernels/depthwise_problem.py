"""Arguments for the implementations of the large depthwise convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from model.kernels.depthwise_taps import tap_major


def depthwise_problem(
    batch: int,
    channels: int,
    height: int,
    width: int,
    kernel_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:
    """Make features in channels_last, taps and bias of normal values; sums come near 1."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(channels, 1, kernel_size, kernel_size, generator=generator) / kernel_size
    bias = torch.randn(channels, generator=generator)
    features = features.to(device, dtype).contiguous(memory_format=torch.channels_last)
    # The weight is what a network of this dtype holds.
    return features, tap_major(weight.to(dtype)).to(device), bias.to(dtype).to(device)
