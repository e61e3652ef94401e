"""Puts the choice between cuDNN and our depthwise kernel into a network that is ready to serve."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from model.kernels.choices import KernelChoices
from model.kernels.depthwise_taps import lay_out
from model.kernels.large_depthwise import large_depthwise

SMALLEST_KERNEL = 7
"""Smaller ones are cuDNN's own."""


class LargeDepthwiseLayer(nn.Module):
    """A folded large depthwise convolution: (B, C, H, W) -> (B, C, H, W).

    Args:
        conv: where weight and bias come from; of the device and dtype that it will be used in.
        choices: who computes which shape.
    """

    weight: Tensor
    bias: Tensor
    taps: Tensor

    def __init__(self, conv: nn.Conv2d, choices: KernelChoices) -> None:
        super().__init__()
        assert conv.bias is not None, "fold the convolution first"
        self.choices = choices
        self.register_buffer("weight", conv.weight.detach())
        self.register_buffer("bias", conv.bias.detach())
        self.register_buffer("taps", lay_out(conv.weight.detach()))
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve, by whoever is fastest."""
        return large_depthwise(features, self.weight, self.bias, self.taps, self.choices)


def choose_depthwise(network: nn.Module, choices: KernelChoices) -> int:
    """Replace every large depthwise convolution of a network, in place; how many.

    Args:
        network: folded, and already of the device and dtype that it will be used in: how taps are
            laid out depends on it.
        choices: who computes which shape; it may be filled later.
    """
    replaced = 0
    for part in list(network.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Conv2d) and _is_large_depthwise(child):
                setattr(part, name, LargeDepthwiseLayer(child, choices))
                replaced += 1
    return replaced


def _is_large_depthwise(conv: nn.Conv2d) -> bool:
    side = cast("tuple[int, int]", conv.kernel_size)[0]
    return (
        side >= SMALLEST_KERNEL
        and side % 2 == 1
        and conv.groups == conv.in_channels == conv.out_channels
        and cast("tuple[int, int]", conv.stride) == (1, 1)
        and cast("tuple[int, int]", conv.dilation) == (1, 1)
        and conv.bias is not None
    )
