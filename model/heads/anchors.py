"""Anchors: the boxes that the region proposal network refines.

Source: mmdetection 2.28 (``AnchorGenerator`` as the authors configure it).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.heads.device_vector import device_vector

SCALE = 8
"""Side of a square anchor, in strides."""

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors at every pixel of a map; the area is the same."""


def grid_anchors(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Centre an anchor of every aspect ratio on the top left corner of every pixel of a map.

    Args:
        height: of the map.
        width: of the map.
        stride: pixels of the network's input per pixel of the map.
        device: of the result.

    Returns:
        (height * width * 3, 4) float32 in input pixels, by row, column, aspect ratio; they may
        lie outside the image.
    """
    roots = device_vector(ASPECT_RATIOS, device, torch.float32).sqrt()
    half_sides = 0.5 * SCALE * stride * torch.stack([1 / roots, roots], dim=1)
    shapes = torch.cat([-half_sides, half_sides], dim=1)  # (3, 4)
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device) * stride,
        torch.arange(width, device=device) * stride,
        indexing="ij",
    )
    centers = torch.stack([columns, rows, columns, rows], dim=2)  # (height, width, 4)
    return (centers.unsqueeze(2) + shapes).flatten(0, 2)
