"""The dilated re-parameterised large-kernel convolution.

Training sums a KxK depthwise convolution and several small dilated ones, each with a batch norm
of its own. All of them are linear, so for inference they merge into one KxK convolution.

Source: UniRepLKNet (arXiv:2311.15599), with the branches of LMMMEng/OverLoCK.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from model.backbone.layers import ConvNorm, depthwise, like_convolution

DILATED_BRANCHES: dict[int, tuple[tuple[int, int], ...]] = {
    19: ((5, 1), (7, 1), (9, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    17: ((5, 1), (7, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (7, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 1), (3, 2), (3, 3)),
    5: ((3, 1), (3, 2)),
}
"""(kernel size, dilation) of the branches beside a large kernel of the given size."""


def large_kernel_conv(channels: int, kernel_size: int, *, merged: bool) -> nn.Module:
    """Build the large-kernel depthwise convolution in its branched or its merged form."""
    if merged:
        return depthwise(channels, kernel_size, bias=True)
    return DilatedReparam(channels, kernel_size)


class DilatedReparam(nn.Module):
    """A KxK depthwise convolution beside dilated small ones, each with its batch norm."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.large = ConvNorm(depthwise(channels, kernel_size, bias=False), channels)
        self.dilated = nn.ModuleDict(
            {
                f"k{size}_{dilation}": ConvNorm(
                    depthwise(channels, size, dilation, bias=False), channels
                )
                for size, dilation in DILATED_BRANCHES[kernel_size]
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        result = cast("Tensor", self.large(features))
        for branch in self.dilated.values():
            result = result + branch(features)
        return result

    def merged(self) -> nn.Conv2d:
        """Return the one KxK convolution with a bias that computes the same in eval mode."""
        weight, bias = self.large.folded_parameters()
        for branch in self.dilated.values():
            assert isinstance(branch, ConvNorm)
            small_weight, small_bias = branch.folded_parameters()
            dilation = cast("nn.Conv2d", branch.conv).dilation[0]
            weight += _on_large_grid(small_weight, dilation, weight.shape[-1])
            bias += small_bias
        return like_convolution(cast("nn.Conv2d", self.large.conv), weight, bias)


def _on_large_grid(weight: Tensor, dilation: int, large_size: int) -> Tensor:
    """Spread a dilated kernel over the large kernel's grid: (C, 1, k, k) -> (C, 1, K, K)."""
    size = weight.shape[-1]
    grid = weight.new_zeros(weight.shape[0], 1, large_size, large_size)
    first = large_size // 2 - dilation * (size // 2)
    taps = slice(first, first + dilation * (size - 1) + 1, dilation)
    grid[:, :, taps, taps] = weight
    return grid
