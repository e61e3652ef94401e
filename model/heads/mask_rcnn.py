"""The detector: backbone, feature pyramid, proposals, boxes, masks.

Source: Mask R-CNN (arXiv:1703.06870) and Cascade Mask R-CNN (arXiv:1906.09756), as mmdetection
2.28 tests them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from model.backbone.overlock import OverLoCK
from model.config import BackboneConfig
from model.heads.detections import Detections
from model.heads.device_vector import device_vector
from model.heads.embedding import Embeddable
from model.heads.fpn import FeaturePyramid
from model.heads.roi_heads import RoiHeads
from model.heads.rpn import Candidates, RegionProposalNetwork

PYRAMID_CHANNELS = 256
BOX_HEAD_CHANNELS = 1024


class MaskRCNN(Embeddable):
    """An OverLoCK detector.

    Args:
        config: the backbone's variant.
        num_classes: without the background.
        cascade: whether three box heads refine boxes in turn, and three masks are averaged.
        merged: whether large kernels are built in their merged form.
    """

    def __init__(
        self, config: BackboneConfig, num_classes: int, *, cascade: bool, merged: bool = False
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = OverLoCK(config, merged=merged, dense="detect")
        self.neck = FeaturePyramid(self.backbone.dense_channels, PYRAMID_CHANNELS)
        self.rpn = RegionProposalNetwork(PYRAMID_CHANNELS)
        self.roi_heads = RoiHeads(PYRAMID_CHANNELS, BOX_HEAD_CHANNELS, num_classes, cascade=cascade)

    def forward(
        self,
        images: Tensor,
        sizes: Sequence[tuple[int, int]],
        original_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Detections]:
        """Detect the instances in every image.

        Args:
            images: normalised RGB, (B, 3, H, W), zeros right of and below each image, H and W
                multiples of 32.
            sizes: of each image in ``images``, without the zeros, (height, width).
            original_sizes: of each image before it was resized, (height, width); boxes are in
                its pixels. None: boxes are in pixels of ``images``.

        Returns:
            One result per image, of at most ``model.heads.roi_heads.MAXIMUM_DETECTIONS`` instances,
            independent of the other images in the batch. NaNs of the network stay in it.

        Raises:
            ValueError: unless there is one size for every image.
        """
        return self.detections(*self.maps(images), sizes, original_sizes)

    def maps(self, images: Tensor) -> tuple[list[Tensor], Candidates]:
        """Compute the outputs whose shapes depend on the batch's shape alone: the compiled part.

        Returns:
            The pyramid, five maps (B, C, H_i, W_i), and the candidates for proposals.
        """
        pyramid: list[Tensor] = self.neck(self.backbone.dense_features(images))
        return pyramid, self.rpn.candidates(pyramid)

    def detections(
        self,
        pyramid: Sequence[Tensor],
        candidates: Candidates,
        sizes: Sequence[tuple[int, int]],
        original_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Detections]:
        """Detect instances in the result of ``maps``, image by image; see ``forward``."""
        proposals = self.rpn.proposals(candidates, sizes)
        device = candidates.boxes.device
        return [
            cast(
                "Detections",
                self.roi_heads(
                    [level[index] for level in pyramid],
                    proposals[index].boxes,
                    size,
                    _scale(size, original_size, device),
                ),
            )
            for index, (size, original_size) in enumerate(
                zip(sizes, original_sizes or sizes, strict=True)
            )
        ]


def _scale(size: tuple[int, int], original_size: tuple[int, int], device: torch.device) -> Tensor:
    """Return input pixels per pixel of the original image, (4,) for x, y, x, y."""
    height_ratio = size[0] / original_size[0]
    width_ratio = size[1] / original_size[1]
    ratios = (width_ratio, height_ratio, width_ratio, height_ratio)
    return device_vector(ratios, device, torch.float32)
