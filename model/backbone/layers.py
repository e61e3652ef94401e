"""The network's basic layers, in their trained form.

A layer's ``folded()`` method returns an equivalent, cheaper module for inference;
``model.lowering.folding`` replaces all of a network's layers by these. Maps are (B, C, H, W).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def depthwise(channels: int, kernel_size: int, dilation: int = 1, *, bias: bool) -> nn.Conv2d:
    """Build a depthwise convolution that keeps the map's size (odd kernels only)."""
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(
        channels,
        channels,
        kernel_size,
        padding=padding,
        dilation=dilation,
        groups=channels,
        bias=bias,
    )


class _BlankConv2d(nn.Conv2d):
    """A convolution with uninitialised parameters, which the caller fills.

    Random initialisation would be wasted, and would advance the caller's generator.
    """

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


def like_convolution(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Build a convolution with the geometry of ``conv``, the given float64 weight, and a bias."""
    result = _BlankConv2d(
        conv.in_channels,
        conv.out_channels,
        cast("tuple[int, int]", conv.kernel_size),
        stride=cast("tuple[int, int]", conv.stride),
        padding=cast("tuple[int, int]", conv.padding),
        dilation=cast("tuple[int, int]", conv.dilation),
        groups=conv.groups,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        result.weight.copy_(weight)
        cast("Tensor", result.bias).copy_(bias)
    return result.train(conv.training)


def norm_as_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Express a batch norm in evaluation mode as ``scale * x + shift``, both (C,) float64."""
    # float64: many branches are summed, and float32 drift would show in the golden numbers.
    variance = cast("Tensor", norm.running_var).double()
    mean = cast("Tensor", norm.running_mean).double()
    scale = norm.weight.detach().double() / (variance + norm.eps).sqrt()
    return scale, norm.bias.detach().double() - mean * scale


def bias_of(conv: nn.Conv2d) -> Tensor:
    """Return the convolution's bias, or zeros, (C_out,) float64."""
    if conv.bias is None:
        return torch.zeros(conv.out_channels, dtype=torch.float64, device=conv.weight.device)
    return conv.bias.detach().double()


def fold_norm_before(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """Fold a norm into the 1x1 convolution behind it (no padding, so it folds exactly)."""
    scale, shift = norm_as_affine(norm)
    weight = conv.weight.detach().double()
    bias = bias_of(conv) + weight[:, :, 0, 0] @ shift
    return like_convolution(conv, weight * scale.view(1, -1, 1, 1), bias)


class ConvNorm(nn.Module):
    """A convolution (or a re-parameterised one) and the batch norm behind it."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor) -> Tensor:
        return cast("Tensor", self.norm(self.conv(features)))

    def folded_parameters(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the one convolution that computes the same, float64."""
        conv = self.conv
        assert isinstance(conv, nn.Conv2d), "merge the inner convolution first"
        scale, shift = norm_as_affine(self.norm)
        weight = conv.weight.detach().double() * scale.view(-1, 1, 1, 1)
        return weight, bias_of(conv) * scale + shift

    def folded(self) -> nn.Conv2d:
        """Return the one convolution that computes the same."""
        assert isinstance(self.conv, nn.Conv2d), "merge the inner convolution first"
        return like_convolution(self.conv, *self.folded_parameters())


class NormConv(nn.Module):
    """A batch norm and the 1x1 convolution behind it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        return cast("Tensor", self.conv(self.norm(features)))

    def folded(self) -> nn.Conv2d:
        """Return one 1x1 convolution that computes the same."""
        return fold_norm_before(self.norm, self.conv)


class ResidualDepthwise(nn.Module):
    """``x + depthwise3x3(x)``, which adds position information."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = depthwise(channels, 3, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        return features + cast("Tensor", self.conv(features))

    def folded(self) -> nn.Conv2d:
        """Return the convolution with 1 added at the kernel's centre."""
        weight = self.conv.weight.detach().double().clone()
        weight[:, :, 1, 1] += 1.0
        return like_convolution(self.conv, weight, bias_of(self.conv))


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of every pixel, eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        pixels = features.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        pixels = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, eps=1e-6)
        return pixels.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Drop a residual branch for some images of a batch in training (arXiv:1603.09382).

    Attributes:
        rate: probability of dropping an image's branch; the kept ones are scaled to the same mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = 1 - self.rate
        factors = branch.new_empty(len(branch), 1, 1, 1).bernoulli_(kept)
        return branch * factors.div_(kept)


class LayerScale(nn.Module):
    """A learned multiply-add per channel; parameters (C, 1, 1, 1) and (C,) as the authors store."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        return torch.addcmul(self.bias.view(1, -1, 1, 1), features, self.weight.view(1, -1, 1, 1))


class ConvScale(nn.Module):
    """A 1x1 convolution and the layer scale behind it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.scale = LayerScale(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return cast("Tensor", self.scale(self.conv(features)))

    def folded(self) -> nn.Conv2d:
        """Return one 1x1 convolution that computes the same."""
        scale = self.scale.weight.detach().double()  # (C_out, 1, 1, 1)
        weight = self.conv.weight.detach().double() * scale
        bias = bias_of(self.conv) * scale.flatten() + self.scale.bias.detach().double()
        return like_convolution(self.conv, weight, bias)


class GlobalResponseNorm(nn.Module):
    """Scale each channel by its energy relative to the mean channel.

    Source: ConvNeXt V2 (arXiv:2301.00808), with the authors' eps inside the division.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        # The sum of squares runs over every pixel: bfloat16 would lose it.
        sum_type = torch.promote_types(features.dtype, torch.float32)
        energy = torch.linalg.vector_norm(features, dim=(2, 3), keepdim=True, dtype=sum_type)
        relative = energy / (energy.mean(dim=1, keepdim=True) + 1e-6)
        scale = self.gamma * relative.to(features.dtype) + 1
        return torch.addcmul(self.beta, features, scale)


class SqueezeExcite(nn.Module):
    """Multiply each channel by a gate computed from all channels' means (arXiv:1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(16, channels // 8)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean(dim=(2, 3), keepdim=True)
        return features * torch.sigmoid(self.expand(F.gelu(self.reduce(means))))


class FeedForward(nn.Module):
    """1x1, GELU, residual depthwise 3x3, GRN, 1x1: the pointwise half of every block."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden_channels, 1)
        self.position = ResidualDepthwise(hidden_channels)
        self.response_norm = GlobalResponseNorm(hidden_channels)
        self.project = nn.Conv2d(hidden_channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.position(F.gelu(self.expand(features)))
        return cast("Tensor", self.project(self.response_norm(hidden)))
