"""Box heads and mask heads, which classify, refine and segment proposals.

Source: Mask R-CNN (arXiv:1703.06870) and Cascade R-CNN (arXiv:1712.00726) as mmdetection 2.28
tests them (``StandardRoIHead``, ``CascadeRoIHead``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.heads.boxes import at_least_float32, clip_boxes, decode_boxes
from model.heads.detections import Detections
from model.heads.nms import nms
from model.heads.roi_sampler import RoiSampler, roi_sampler

SCORE_THRESHOLD = 0.05
"""Scores of detections are above this; the service's threshold can only raise it."""

MAXIMUM_DETECTIONS = 100
"""Most detections of an image; the service's limit can only lower it."""

IOU_THRESHOLD = 0.5
BOX_SIDE = 7
MASK_SIDE = 14

STAGE_STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
"""Standard deviations of the boxes' deltas, by stage of the cascade."""


class BoxHead(nn.Module):
    """Features of RoIs (N, C, 7, 7) -> logits (N, classes + 1) and deltas (N, K, 4).

    The last logit is the background's. K is 1 if all classes share a RoI's deltas, else the number
    of classes.
    """

    def __init__(
        self, channels: int, hidden_channels: int, num_classes: int, *, shared_deltas: bool
    ) -> None:
        super().__init__()
        self.shared = nn.ModuleList(
            [
                nn.Linear(channels * BOX_SIDE * BOX_SIDE, hidden_channels),
                nn.Linear(hidden_channels, hidden_channels),
            ]
        )
        self.classify = nn.Linear(hidden_channels, num_classes + 1)
        self.regress = nn.Linear(hidden_channels, 4 if shared_deltas else 4 * num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = features.flatten(1)
        for layer in self.shared:
            hidden = F.relu(layer(hidden), inplace=True)
        return self.classify(hidden), self.regress(hidden).unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """Features of RoIs (N, C, 14, 14) and their labels (N,) -> mask logits (N, 28, 28)."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.classify = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        for conv in self.convs:
            features = F.relu(conv(features), inplace=True)
        features = F.relu(self.upsample(features), inplace=True)
        # Only the label's mask is needed: for each RoI a 1x1 convolution with that class's weight.
        weight = self.classify.weight[labels].flatten(2)  # (N, C, 1, 1) -> (N, C, 1)
        bias = cast("Tensor", self.classify.bias)[labels].view(-1, 1, 1)
        logits = torch.baddbmm(bias, weight.transpose(1, 2), features.flatten(2))  # (N, 1, h * w)
        return logits.view(len(features), *features.shape[2:])


class RoiHeads(nn.Module):
    """The second half of the detector, for one image at a time.

    Args:
        channels: width of the pyramid.
        hidden_channels: width of the box heads' layers.
        num_classes: without the background.
        cascade: whether three box heads refine boxes in turn, and three masks are averaged.
    """

    def __init__(
        self, channels: int, hidden_channels: int, num_classes: int, *, cascade: bool
    ) -> None:
        super().__init__()
        stages = len(STAGE_STDS) if cascade else 1
        self.box_heads = nn.ModuleList(
            BoxHead(channels, hidden_channels, num_classes, shared_deltas=cascade)
            for _ in range(stages)
        )
        self.mask_heads = nn.ModuleList(MaskHead(channels, num_classes) for _ in range(stages))

    def forward(
        self, pyramid: Sequence[Tensor], proposals: Tensor, size: tuple[int, int], scale: Tensor
    ) -> Detections:
        """Detect one image's instances.

        Args:
            pyramid: its maps, (C, H_i, W_i), strides as ``model.heads.fpn.STRIDES``.
            proposals: boxes, (N, 4) in input pixels.
            size: of the image in the input, without padding, (height, width).
            scale: input pixels per pixel of the result, (4,) for x, y, x, y.
        """
        sample = roi_sampler(pyramid)
        boxes, logits, deltas = self._refine_boxes(sample, proposals, size)
        class_scores = logits.softmax(dim=1)[:, :-1]
        # Negated, so that NaN is kept and shows in the result.
        proposal, labels = (~(class_scores <= SCORE_THRESHOLD)).nonzero(as_tuple=True)
        scores = class_scores[proposal, labels]
        deltas = deltas.expand(-1, class_scores.shape[1], -1)[proposal, labels]
        # Scaled before NMS, as in mmdetection: rounding may decide close cases.
        boxes = decode_boxes(boxes[proposal], deltas, STAGE_STDS[len(self.box_heads) - 1])
        boxes = clip_boxes(boxes, size) / scale
        best = nms(boxes, scores, labels, IOU_THRESHOLD)[:MAXIMUM_DETECTIONS]
        boxes, labels = boxes[best], labels[best]
        return Detections(
            boxes=boxes,
            scores=scores[best],
            labels=labels,
            masks=self._masks(sample, boxes * scale, labels),
        )

    def _refine_boxes(
        self, sample: RoiSampler, boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the box heads.

        Returns:
            The last head's input boxes (N, 4), the heads' mean logits (N, classes + 1), and the
            last head's deltas (N, K, 4).
        """
        logits_of: list[Tensor] = []
        for head, stds in zip(self.box_heads[:-1], STAGE_STDS, strict=False):
            logits, deltas = head(sample(boxes, BOX_SIDE))
            logits_of.append(at_least_float32(logits))
            boxes = clip_boxes(decode_boxes(boxes, deltas.squeeze(1), stds), size)
        logits, deltas = self.box_heads[-1](sample(boxes, BOX_SIDE))
        logits_of.append(at_least_float32(logits))
        return boxes, torch.stack(logits_of).mean(dim=0), deltas

    def _masks(self, sample: RoiSampler, boxes: Tensor, labels: Tensor) -> Tensor:
        features = sample(boxes, MASK_SIDE)
        masks = [at_least_float32(head(features, labels)).sigmoid() for head in self.mask_heads]
        return torch.stack(masks).mean(dim=0)
