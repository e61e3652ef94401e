"""The feature pyramid: the backbone's four maps at one width, each with the coarser ones added.

Source: FPN (arXiv:1612.03144) as mmdetection 2.28 builds it: biases, no norms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32, 64)
"""Input pixels per pixel of each pyramid level."""


class FeaturePyramid(nn.Module):
    """Four maps (B, C_i, H_i, W_i), strides 4 to 32 -> five (B, C, H_i, W_i), strides 4 to 64."""

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        merged: Tensor | None = None
        pyramid: list[Tensor] = []
        for lateral, output, level in reversed(
            list(zip(self.laterals, self.outputs, features, strict=True))
        ):
            own: Tensor = lateral(level)
            if merged is not None:
                own = own + F.interpolate(merged, size=own.shape[2:], mode="nearest")
            merged = own
            pyramid.insert(0, output(merged))
        pyramid.append(pyramid[-1][:, :, ::2, ::2])
        return pyramid
