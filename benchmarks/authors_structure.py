"""The baseline: OverLoCK with the structure of the authors' public code, equal in numbers to ours.

Everything that makes their code slow is kept, since speed-ups are measured against it: NCHW,
float32, eager; large kernels merged, but batch norms and layer scales on their own; a copy to NHWC
and back around every layer norm; layer scales as grouped convolutions; in ContMix every weight of
every pixel in memory, its position bias looked up in every call, aggregation by unfold.

NATTEN's kernels (0.17) cannot be installed beside a current PyTorch; unfold replaces them.
Source: github.com/LMMMEng/OverLoCK; the modules are our own.
"""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.layers import LayerNorm2d, LayerScale
from model.lowering.folding import merge_branches

Network = TypeVar("Network", bound=nn.Module)


class FlippingLayerNorm2d(nn.Module):
    """A layer norm between two copies of the features, to NHWC and back."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, features: Tensor) -> Tensor:
        """Normalise every pixel of (B, C, H, W) over its channels."""
        pixels = features.permute(0, 2, 3, 1).contiguous()  # (B, C, H, W) -> (B, H, W, C)
        pixels = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, eps=1e-6)
        return pixels.permute(0, 3, 1, 2).contiguous()


class ConvolvedLayerScale(nn.Module):
    """A layer scale as a 1x1 convolution with one group a channel."""

    def __init__(self, scale: LayerScale) -> None:
        super().__init__()
        self.weight, self.bias = scale.weight, scale.bias

    def forward(self, features: Tensor) -> Tensor:
        """Multiply and add per channel of (B, C, H, W)."""
        return F.conv2d(features, self.weight, self.bias, groups=features.shape[1])


def with_authors_structure(network: Network) -> Network:
    """Convert a trained network (``fused=False``) in evaluation mode, in place."""
    _replace_parts(merge_branches(network))
    return network


def _replace_parts(network: nn.Module) -> None:
    for name, part in network.named_children():
        match part:
            case LayerNorm2d():
                setattr(network, name, FlippingLayerNorm2d(part))
            case LayerScale():
                setattr(network, name, ConvolvedLayerScale(part))
            case _:
                _replace_parts(part)
