"""Embeddings: means of a network's maps."""

from __future__ import annotations

import torch
from torch import Tensor

from model.backbone.overlock import OverLoCK, StageMaps
from model.backbone.trainable import Trainable


class Embeddable(Trainable):
    """A network on a backbone, whose maps' means are embeddings of its images.

    Attributes:
        backbone: in any form.
    """

    backbone: OverLoCK

    @property
    def layer_dimensions(self) -> dict[str, int]:
        """Lengths of the layers' embeddings by name, the default layer first."""
        stage1, stage2, stage3, overview = self.backbone.config.channels
        _, _, focus3, focus4 = self.backbone.dense_channels
        return {
            "backbone": focus4,
            "stage1": stage1,
            "stage2": stage2,
            "stage3": stage3,
            "overview": overview,
            "focus3": focus3,
            "focus4": focus4,
        }

    def embed(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Compute an embedding of each image.

        Args:
            images: normalised, (B, 3, H, W), each side at least 32 pixels.
            layer: a name of ``layer_dimensions``; None for the first of them.

        Returns:
            (B, D) in float32, or float64 of a network in it.

        Raises:
            ValueError: if the network has no such layer, or a side is below 32 pixels.
        """
        known = self.layer_dimensions
        layer = next(iter(known)) if layer is None else layer
        if layer not in known:
            raise ValueError(f"There is no layer {layer!r}; there are {', '.join(known)}.")
        return self.layer_means(images)[layer]

    def layer_means(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the embeddings of all layers in one pass, each (B, D); see ``embed``.

        ``backbone`` is the mean of the map that a head reads last: ``focus4``, which segmenters and
        detectors normalise, and to which detectors add the overview. The other layers are the
        stages' outputs without norms.
        """
        return self.means_of(self.backbone.stage_maps(images))

    def means_of(self, maps: StageMaps) -> dict[str, Tensor]:
        """Compute the embeddings that need no head, each (B, D)."""
        means = {name: map_mean(features) for name, features in maps._asdict().items()}
        if self.backbone.dense is None:
            last = means["focus4"]
        else:
            last = map_mean(self.backbone.last_dense_map(maps))
        return {"backbone": last} | means


def map_mean(features: Tensor) -> Tensor:
    """Average a map over its positions, in float32 or wider: (B, C, h, w) -> (B, C)."""
    return features.mean(dim=(2, 3), dtype=torch.promote_types(features.dtype, torch.float32))
