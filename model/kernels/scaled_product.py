"""A 1x1 convolution of a map whose channels are scaled, each image's by factors of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.library.custom_op("overlock::add_product", mutates_args=("residual",))
def add_product(residual: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add the product of pixels with a weight to a map, in place.

    The matrix library adds as it writes: one launch. PyTorch's own operators, which the compiler
    rewrites to return a new map, would copy the old one first.

    Args:
        residual: (B, C_out, H, W).
        rows: the pixels of another map, (B, H*W, C).
        weight: for all images, (C_out, C), or for each, (B, C_out, C).
    """
    sums = residual.permute(0, 2, 3, 1)
    if not sums.is_contiguous():
        residual.add_(as_map(rows @ weight.mT, residual.shape[2], residual.shape[3]))
    elif weight.ndim == 2:
        sums.view(-1, sums.shape[-1]).addmm_(rows.flatten(0, 1), weight.t())
    else:
        sums.view(rows.shape[0], rows.shape[1], -1).baddbmm_(rows, weight.mT)


def scaled_product(
    features: Tensor,
    weight: Tensor,
    scaled: Callable[[Tensor], Tensor],
    residual: Tensor | None = None,
) -> Tensor:
    """Compute the product of features whose channels are scaled, with fewer numbers scaled.

    Each image's factors go into a weight of its own where that is smaller than its map: where
    C_out is below the number of pixels.

    Args:
        features: (B, C, H, W).
        weight: (C_out, C).
        scaled: multiplies the channels of pixels, (B, N, C), or of all images' rows, (1, N, C), by
            the factors of each image, to (B, N, C).
        residual: a map to add the product to, in place, (B, C_out, H, W).

    Returns:
        (B, C_out, H, W), in the dtype of the features, channels last in memory; or the residual.
    """
    height, width = features.shape[2:]
    rows = as_rows(features)
    if scales_weight(weight.shape[0], height, width):
        weight = scaled(weight.unsqueeze(0))  # (B, C_out, C)
    else:
        rows = scaled(rows)
    if residual is None:
        return as_map(rows @ weight.mT, height, width)
    add_product(residual, rows, weight)
    return residual


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
