"""The segmenter: backbone and UPerHead.

Source: Unified Perceptual Parsing (arXiv:1807.10221), as mmsegmentation 0.30 builds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.layers import ConvNorm
from model.backbone.overlock import OverLoCK
from model.config import BackboneConfig
from model.heads.embedding import Embeddable
from model.heads.pyramid_conv import PyramidConv

POOL_SIZES = (1, 2, 3, 6)
"""Sides of the grids that the deepest map is pooled to."""


class UPerHead(nn.Module):
    """Pyramid pooling on the deepest map, a top-down pyramid, one prediction for all levels.

    Args:
        in_channels: widths of the four maps, at strides 4, 8, 16 and 32.
        channels: width of every layer.
        num_classes: width of the result.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_classes: int) -> None:
        super().__init__()
        deepest, pooled = in_channels[-1], len(POOL_SIZES) * channels
        self.pooled = nn.ModuleList(_conv_norm(deepest, channels, 1) for _ in POOL_SIZES)
        self.bottleneck = _conv_norm(deepest + pooled, channels, 3)
        self.laterals = nn.ModuleList(_conv_norm(width, channels, 1) for width in in_channels[:-1])
        self.smooth = nn.ModuleList(_conv_norm(channels, channels, 3) for _ in in_channels[:-1])
        self.fuse = PyramidConv(len(in_channels), channels)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify every pixel of the finest map: four (B, C_i, H_i, W_i) -> (B, classes, H, W)."""
        *finer, deepest = maps
        levels = [
            F.relu(conv(level), inplace=True)
            for conv, level in zip(self.laterals, finer, strict=True)
        ]
        levels.append(self._pool_pyramid(deepest))
        for above, below in ((3, 2), (2, 1), (1, 0)):
            levels[below] = levels[below] + _resized(levels[above], levels[below])
        # The pooled level is its own result; the others are smoothed after all additions.
        *finer, deepest = levels
        smoothed = [
            F.relu(conv(level), inplace=True)
            for conv, level in zip(self.smooth, finer, strict=True)
        ]
        fused = F.relu(self.fuse([*smoothed, deepest]), inplace=True)
        return cast("Tensor", self.classify(fused))

    def _pool_pyramid(self, features: Tensor) -> Tensor:
        pooled = [
            _resized(F.relu(conv(F.adaptive_avg_pool2d(features, size)), inplace=True), features)
            for conv, size in zip(self.pooled, POOL_SIZES, strict=True)
        ]
        return F.relu(self.bottleneck(torch.cat([features, *pooled], dim=1)), inplace=True)


class UPerNet(Embeddable):
    """An OverLoCK segmenter: normalised RGB (B, 3, H, W) -> logits (B, classes, H/4, W/4).

    H and W are multiples of 32; ``model.heads.label_map`` brings the logits to the image's size.

    Args:
        config: the backbone's variant.
        head_channels: width of the head.
        num_classes: width of the result.
        merged: whether large kernels are built in their merged form.
    """

    def __init__(
        self, config: BackboneConfig, head_channels: int, num_classes: int, *, merged: bool = False
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = OverLoCK(config, merged=merged, dense="segment")
        self.head = UPerHead(self.backbone.dense_channels, head_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.backbone.dense_features(images)))


def _resized(features: Tensor, like: Tensor) -> Tensor:
    """Resize bilinearly to the height and width of another map."""
    if features.shape[2:] == like.shape[2:]:
        return features
    return F.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int) -> ConvNorm:
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False)
    return ConvNorm(conv, out_channels)
