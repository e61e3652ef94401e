"""Problems for the kernels: calls that the networks make, and odd sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import BACKBONES
from model.kernels.context_mixing import position_bias_windows
from model.kernels.gpu.depthwise_layout import lay_out

STRIDES = (4, 8, 16, 32)
SMALL_KERNEL = 5


@dataclass(frozen=True)
class MixingProblem:
    """One call of ContMix's aggregation: B images, G groups of C / G channels and Q / G queries."""

    batch: int
    channels: int
    groups: int
    height: int
    width: int
    kernel_size: int

    def arguments(
        self, dtype: torch.dtype, device: torch.device, layout: torch.memory_format
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Make normal values, queries and virtual keys; logits come near 3."""
        taps = SMALL_KERNEL**2 + self.kernel_size**2
        size = (self.height, self.width)
        width = self.channels // 2 // self.groups
        values = torch.randn(self.batch, self.channels, *size, device=device)
        queries = torch.randn(self.batch, self.groups * width, *size, device=device)
        keys = torch.randn(self.batch, self.groups, taps, width, device=device)
        biases = [
            position_bias_windows(
                torch.randn(self.groups, 2 * side - 1, 2 * side - 1, device=device),
                torch.zeros(side**2, device=device),
            ).to(dtype)
            for side in (SMALL_KERNEL, self.kernel_size)
        ]
        return (
            values.to(dtype).contiguous(memory_format=layout),
            queries.to(dtype).contiguous(memory_format=layout),
            (keys * 0.7).to(dtype),
            biases[0],
            biases[1],
        )

    def bytes_once(self, dtype: torch.dtype) -> int:
        """Count values, queries, result, virtual keys and biases, each moved once."""
        taps = SMALL_KERNEL**2 + self.kernel_size**2
        numbers = (
            self.batch * self.height * self.width * self.channels * 5 // 2
            + self.batch * taps * self.channels // 2
            + self.groups * (SMALL_KERNEL**4 + self.kernel_size**4)
        )
        return numbers * dtype.itemsize


@dataclass(frozen=True)
class DepthwiseProblem:
    """One large depthwise convolution."""

    batch: int
    channels: int
    height: int
    width: int
    kernel_size: int

    def arguments(
        self, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Make normal features in channels_last, weight, bias and taps; sums come near 1."""
        side = self.kernel_size
        features = torch.randn(self.batch, self.channels, self.height, self.width, device=device)
        weight = torch.randn(self.channels, 1, side, side, device=device).to(dtype) / side
        bias = torch.randn(self.channels, device=device).to(dtype)
        features = features.to(dtype).contiguous(memory_format=torch.channels_last)
        return features, weight, bias, lay_out(weight)

    def bytes_once(self, dtype: torch.dtype) -> int:
        """Count features, result and float32 taps, each moved once."""
        pixels = self.batch * self.height * self.width
        return 2 * pixels * self.channels * dtype.itemsize + self.kernel_size**2 * self.channels * 4


def of_network(
    name: str, batch: int, size: tuple[int, int]
) -> tuple[list[MixingProblem], list[DepthwiseProblem]]:
    """Return each distinct problem of a backbone for a batch of images of ``size``."""
    config = BACKBONES[name]
    mixing = [
        MixingProblem(
            batch,
            config.channels[stage],
            2 * config.focus_heads[stage - 2],
            max(size[0] // STRIDES[stage], config.kernel_sizes[stage]),
            max(size[1] // STRIDES[stage], config.kernel_sizes[stage]),
            config.kernel_sizes[stage],
        )
        for stage in (2, 3)
    ]
    stages = zip(config.channels, STRIDES, config.kernel_sizes, strict=True)
    depthwise = [
        DepthwiseProblem(batch, channels, size[0] // stride, size[1] // stride, kernel_size)
        for channels, stride, kernel_size in stages
    ]
    return mixing, depthwise
