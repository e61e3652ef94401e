"""The baseline: OverLoCK with the structure of the authors' public code, equal in numbers to ours.

Everything that makes their code slow is kept, since speed-ups are measured against it: NCHW,
float32, eager; large kernels merged, but batch norms and layer scales on their own; a copy to NHWC
and back around every layer norm; layer scales as grouped convolutions; in ContMix every weight of
every pixel in memory, and its position bias looked up in every call.

NATTEN's kernels (0.17) cannot be installed beside a current PyTorch. In their place stands the
fastest that PyTorch's operators had for it, a row of pixels at a time, so that no speed-up is one
over a bad stand-in.
Source: github.com/LMMMEng/OverLoCK; the modules are our own.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.context_mixing import ContextMixing
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


def sum_windows_by_rows(
    values: Tensor, weights: Tensor, row_starts: Tensor, column_starts: Tensor
) -> Tensor:
    """Do what ``sum_windows`` does, with the windows of one row of pixels in memory."""
    groups, kernel_size = weights.shape[1], weights.shape[-1]
    columns = column_starts[:, None] + torch.arange(kernel_size, device=values.device)
    pixels = values.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2).contiguous()
    result = torch.empty_like(pixels)  # (B, G, H, W, C')
    for row, start in enumerate(row_starts.tolist()):
        windows = pixels[:, :, start : start + kernel_size, columns]  # (B, G, K, W, K, C')
        windows = windows.transpose(2, 3).flatten(3, 4)  # (B, G, W, K*K, C')
        summed = weights[:, :, row].flatten(-2).unsqueeze(-2) @ windows  # (B, G, W, 1, C')
        result[:, :, row] = summed.squeeze(-2)
    return result.permute(0, 1, 4, 2, 3).flatten(1, 2)


def with_authors_structure(network: Network) -> Network:
    """Convert a trained network (``fused=False``) in evaluation mode, in place."""
    _replace_parts(merge_branches(network))
    return network


def _replace_parts(network: nn.Module) -> None:
    for name, part in network.named_children():
        if isinstance(part, ContextMixing):
            part.sum_windows = sum_windows_by_rows
        match part:
            case LayerNorm2d():
                setattr(network, name, FlippingLayerNorm2d(part))
            case LayerScale():
                setattr(network, name, ConvolvedLayerScale(part))
            case _:
                _replace_parts(part)
