"""A 1x1 convolution of a map whose channels are scaled, each image's by factors of its own."""

from __future__ import annotations

from collections.abc import Callable

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


def scaled_product(features: Tensor, weight: Tensor, scaled: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute ``pixel_product`` of features whose channels are scaled, with fewer numbers scaled.

    Each image's factors go into a weight of its own where that is smaller than its map: where
    C_out is below the number of pixels.

    Args:
        features: (B, C, H, W).
        weight: (C_out, C).
        scaled: multiplies the channels of pixels, (B, N, C), or of all images' rows, (1, N, C), by
            the factors of each image, to (B, N, C).

    Returns:
        (B, C_out, H, W), in the dtype of the features, channels last in memory.
    """
    height, width = features.shape[2:]
    pixels = as_rows(features)
    if scales_weight(weight.shape[0], height, width):
        # (B, H*W, C) x (B, C, C_out)
        product = pixels @ scaled(weight.unsqueeze(0)).transpose(1, 2)
    else:
        product = F.linear(scaled(pixels), weight)
    return as_map(product, height, width)


def as_rows(features: Tensor) -> Tensor:
    """Return the pixels of a map as rows: (B, C, H, W) -> (B, H*W, C)."""
    batch, channels, height, width = features.shape
    return features.permute(0, 2, 3, 1).reshape(batch, height * width, channels)


def as_map(rows: Tensor, height: int, width: int) -> Tensor:
    """Return a map of pixels, channels last in memory: (B, H*W, C) -> (B, C, H, W)."""
    batch, _, channels = rows.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


def scales_weight(out_channels: int, height: int, width: int) -> bool:
    """Return whether an image's scaled weight has fewer numbers than its scaled map."""
    return out_channels < height * width
