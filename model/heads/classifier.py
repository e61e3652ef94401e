"""The image classifier: backbone, projection, average pool, linear layer."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.layers import ConvNorm, fold_norm_before
from model.backbone.overlock import OverLoCK
from model.backbone.trainable import Trainable
from model.config import BackboneConfig


class ClassifierHead(nn.Module):
    """Project every pixel, then pool, then classify: (B, C, h, w) -> (B, classes)."""

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int) -> None:
        super().__init__()
        self.project = ConvNorm(
            nn.Conv2d(in_channels, hidden_channels, 1, bias=False), hidden_channels
        )
        self.classify = nn.Conv2d(hidden_channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        # The projection comes before the pool: SiLU does not commute with a mean.
        pooled = F.silu(self.project(features)).mean(dim=(2, 3), keepdim=True)
        return cast("Tensor", self.classify(pooled)).flatten(1)


class OverviewHead(nn.Module):
    """Classify by the overview net's last map alone: (B, C4, h, w) -> (B, classes).

    The authors' auxiliary head of training; ``classify`` at every pixel gives maps whose means are
    the logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(in_channels)
        self.classify = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, overview: Tensor) -> Tensor:
        pooled = self.norm(overview).mean(dim=(2, 3), keepdim=True)
        return cast("Tensor", self.classify(pooled)).flatten(1)

    def folded(self) -> OverviewHead:
        """Fold the norm into the layer behind it: both are linear, as is the mean between them."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.classify = fold_norm_before(self.norm, self.classify)
            self.norm = nn.Identity().train(self.training)
        return self


class ImageClassifier(Trainable):
    """An OverLoCK classifier: normalised RGB (B, 3, H, W) -> logits (B, classes).

    In training mode, with an overview head, the result is the logits and that head's.

    Args:
        config: the backbone's variant.
        num_classes: width of the result.
        merged: whether large kernels are built in their merged form.
        overview_head: whether it has the auxiliary head of training, which inference does not run.
    """

    def __init__(
        self,
        config: BackboneConfig,
        num_classes: int,
        *,
        merged: bool = False,
        overview_head: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = OverLoCK(config, merged=merged)
        self.head = ClassifierHead(self.backbone.out_channels, config.head_channels, num_classes)
        self.overview_head = (
            OverviewHead(config.channels[3], num_classes) if overview_head else None
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        overview, focus = self.backbone.last_maps(images)
        logits = cast("Tensor", self.head(focus))
        if self.training and self.overview_head is not None:
            return logits, self.overview_head(overview)
        return logits
