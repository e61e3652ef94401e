"""A 1x1 convolution of a map whose channels are scaled, each image's by factors of its own."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pixel_product(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply every pixel of (B, C, H, W) by a weight (C_out, C): a 1x1 convolution.

    As one matrix product: for few images cuDNN chooses slower kernels than a matrix library, and
    that library adds the bias in the same launch.
    """
    # (B, H, W, C) -> (B, H, W, C_out)
    pixels = F.linear(features.permute(0, 2, 3, 1), weight, bias)
    return pixels.permute(0, 3, 1, 2)


def scaled_product(features: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
    """Compute ``pixel_product(features * scale, weight)``, with the fewer numbers scaled.

    Each image's factors go into a weight of its own where that is smaller than its map: where
    C_out is below the number of pixels. Both ways cost two launches.

    Args:
        features: (B, C, H, W).
        scale: a factor for each channel of each image, (B, C).
        weight: (C_out, C).

    Returns:
        (B, C_out, H, W), in the dtype of the features, channels last in memory.
    """
    batch, channels, height, width = features.shape
    if scales_weight(weight.shape[0], height, width):
        weights = (weight * scale.unsqueeze(1)).to(features.dtype)  # (B, C_out, C)
        pixels = features.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        # (B, H*W, C) x (B, C, C_out)
        product = pixels @ weights.transpose(1, 2)
        return product.view(batch, height, width, -1).permute(0, 3, 1, 2)
    scaled = (features * scale.unsqueeze(2).unsqueeze(3)).to(features.dtype)
    return pixel_product(scaled, weight)


def scales_weight(out_channels: int, height: int, width: int) -> bool:
    """Return whether an image's scaled weight has fewer numbers than its scaled map."""
    return out_channels < height * width
