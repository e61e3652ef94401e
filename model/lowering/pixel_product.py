"""A folded 1x1 convolution as a matrix product, on any device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PixelProduct(nn.Module):
    """A 1x1 convolution as a matrix product: (B, C, H, W) -> (B, C_out, H, W).

    Attributes:
        weight: (C_out, C); its rows can be chosen.
        bias: (C_out,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d), "fold the convolution first"
        self.register_buffer("weight", matrix_of(conv))
        self.register_buffer("bias", folded_bias(conv))
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        return pixel_product(features, self.weight, self.bias)


def pixel_product(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply every pixel of (B, C, H, W) by a weight (C_out, C): a 1x1 convolution.

    As one matrix product: for few images cuDNN chooses slower kernels than a matrix library, and
    that library adds the bias in the same launch.
    """
    # (B, H, W, C) -> (B, H, W, C_out)
    pixels = F.linear(features.permute(0, 2, 3, 1), weight, bias)
    return pixels.permute(0, 3, 1, 2)


def matrix_of(conv: nn.Conv2d) -> Tensor:
    """Return a 1x1 convolution's weight, (C_out, C)."""
    return conv.weight.detach().flatten(1).contiguous()


def folded_bias(conv: nn.Conv2d) -> Tensor:
    """Return a folded convolution's bias, (C_out,)."""
    assert conv.bias is not None, "fold the convolution first"
    return conv.bias.detach()
