"""A backbone alone, for a head of one's own."""

from __future__ import annotations

from torch import Tensor

from model.backbone.overlock import OverLoCK
from model.backbone.trainable import Trainable

STRIDES = (4, 8, 16, 32)
"""Of the four maps, relative to the input."""


class FeatureExtractor(Trainable):
    """Four maps of an image: normalised input (B, 3, H, W) -> (B, C_i, H_i, W_i) at ``STRIDES``.

    See ``OverLoCK.dense_features``.

    Attributes:
        backbone: in its trained or its folded form.
    """

    def __init__(self, backbone: OverLoCK) -> None:
        super().__init__()
        self.backbone = backbone
        super().train(backbone.training)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Widths of the maps."""
        return self.backbone.dense_channels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the maps."""
        return self.backbone.dense_features(images)
