"""The image classifier: backbone, projection, average pool, linear layer."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.layers import ConvNorm, fold_norm_before
from model.backbone.overlock import OverLoCK
from model.config import BackboneConfig
from model.heads.class_maps import ClassMaps, check_class_ids, position_logits
from model.heads.embedding import Embeddable, map_mean


class ActivatedMean(nn.Module):
    """SiLU at every position, then their mean: (B, C, h, w) -> (B, C, 1, 1)."""

    def forward(self, features: Tensor) -> Tensor:
        return F.silu(features).mean(dim=(2, 3), keepdim=True)


class ClassifierHead(nn.Module):
    """Project every pixel, then pool, then classify: (B, C, h, w) -> (B, classes)."""

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int) -> None:
        super().__init__()
        self.project = ConvNorm(
            nn.Conv2d(in_channels, hidden_channels, 1, bias=False), hidden_channels
        )
        # The projection comes before the pool: SiLU does not commute with a mean.
        self.pool = ActivatedMean()
        self.classify = nn.Conv2d(hidden_channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self._logits(self.project(features))

    def positions(self, features: Tensor) -> Tensor:
        """Compute what ``classify`` sees the mean of: (B, C, h, w) -> (B, C_hidden, h, w)."""
        return F.silu(self.project(features))

    def logits_and_positions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ``forward``, to the bit, and ``positions``."""
        projected = self.project(features)
        return self._logits(projected), F.silu(projected)

    def _logits(self, projected: Tensor) -> Tensor:
        return cast("Tensor", self.classify(self.pool(projected))).flatten(1)


class OverviewHead(nn.Module):
    """Classify by the overview net's last map alone: (B, C4, h, w) -> (B, classes).

    The authors' auxiliary head of training.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(in_channels)
        self.classify = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, overview: Tensor) -> Tensor:
        pooled = self.positions(overview).mean(dim=(2, 3), keepdim=True)
        return cast("Tensor", self.classify(pooled)).flatten(1)

    def positions(self, overview: Tensor) -> Tensor:
        """Compute what ``classify`` sees the mean of, (B, C4, h, w)."""
        return cast("Tensor", self.norm(overview))

    def folded(self) -> OverviewHead:
        """Fold the norm into the layer behind it: both are linear, as is the mean between them."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.classify = fold_norm_before(self.norm, self.classify)
            self.norm = nn.Identity().train(self.training)
        return self


class ExplainedLogits(NamedTuple):
    """A classification's result with what its class maps are made of.

    Attributes:
        logits: (B, classes).
        focus: what the last layer sees the mean of, (B, C_hidden, h, w).
        overview: the same of the overview head, (B, C4, h, w); None without one.
    """

    logits: Tensor
    focus: Tensor
    overview: Tensor | None


class ImageClassifier(Embeddable):
    """An OverLoCK classifier: normalised RGB (B, 3, H, W) -> logits (B, classes).

    In training mode, with an overview head, the result is the logits and that head's.

    Args:
        config: the backbone's variant.
        num_classes: width of the result.
        merged: whether large kernels are built in their merged form.
        overview_head: whether it has the auxiliary head of training, which inference runs for class
            maps alone.
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

    @property
    def layer_dimensions(self) -> dict[str, int]:
        """Lengths of the layers' embeddings by name, the default layer first."""
        return {"head": self.backbone.config.head_channels} | super().layer_dimensions

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.backbone.stage_maps(images)
        logits = cast("Tensor", self.head(maps.focus4))
        if self.training and self.overview_head is not None:
            return logits, self.overview_head(maps.overview)
        return logits

    def layer_means(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the embeddings of all layers in one pass, each (B, D); see ``embed``.

        ``head`` is what the last linear layer sees.
        """
        maps = self.backbone.stage_maps(images)
        head = {"head": map_mean(self.head.positions(maps.focus4))}
        return head | self.means_of(maps)

    def explain(self, images: Tensor) -> ExplainedLogits:
        """Compute the logits and, in the same pass, what class maps are made of."""
        maps = self.backbone.stage_maps(images)
        logits, focus = self.head.logits_and_positions(maps.focus4)
        if self.overview_head is None:
            return ExplainedLogits(logits, focus, None)
        return ExplainedLogits(logits, focus, self.overview_head.positions(maps.overview))

    def class_maps(self, images: Tensor, class_ids: Tensor | None = None) -> ClassMaps:
        """Compute where in each image the logits of classes come from.

        Args:
            images: normalised, (B, 3, H, W), each side at least 32 pixels.
            class_ids: the wanted classes, a row for each image, (B, k) int64; None for all.

        Returns:
            The maps of both heads; h and w are H/32 and W/32, rounded up.

        Raises:
            ValueError: if an id is no class of the network, there is not one row of ids for each
                image, or a side is below 32 pixels.
        """
        if class_ids is not None:
            check_class_ids(class_ids, len(images), self.num_classes)
        explained = self.explain(images)
        return self.maps_of(explained.focus, explained.overview, class_ids)

    def maps_of(
        self, focus: Tensor, overview: Tensor | None, class_ids: Tensor | None = None
    ) -> ClassMaps:
        """Compute class maps of what ``explain`` returned; arguments as of ``class_maps``.

        Ids are not checked: a wrong one is an error of the device.
        """
        focus_maps = position_logits(focus, self.head.classify, class_ids)
        if self.overview_head is None or overview is None:
            return ClassMaps(focus_maps, None)
        return ClassMaps(
            focus_maps, position_logits(overview, self.overview_head.classify, class_ids)
        )
