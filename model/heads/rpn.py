"""The region proposal network: candidate boxes for objects of any class.

Source: Faster R-CNN (arXiv:1506.01497) as mmdetection 2.28 tests it (``RPNHead``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.heads.anchors import ASPECT_RATIOS, grid_anchors
from model.heads.boxes import at_least_float32, clip_boxes, decode_boxes
from model.heads.fpn import STRIDES
from model.heads.nms import nms

CANDIDATES_PER_LEVEL = 1000
IOU_THRESHOLD = 0.7
MAXIMUM_PROPOSALS = 1000

_STDS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Proposals:
    """One image's proposals, best first.

    Attributes:
        boxes: (N, 4) float32, in pixels of the network's input.
        scores: probability of an object, (N,).
    """

    boxes: Tensor
    scores: Tensor


class Candidates(NamedTuple):
    """Boxes before NMS; their shapes depend on the maps' shapes alone.

    Attributes:
        scores: probability of an object, (B, N), best first within a level.
        boxes: (B, N, 4) float32, in pixels of the network's input; they may lie outside the image.
        levels: pyramid level of each box, (N,) int64.
    """

    scores: Tensor
    boxes: Tensor
    levels: Tensor


class RegionProposalNetwork(nn.Module):
    """Five maps (B, C, H_i, W_i) and the images' sizes -> one ``Proposals`` an image."""

    ratios: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.classify = nn.Conv2d(channels, len(ASPECT_RATIOS), 1)
        self.regress = nn.Conv2d(channels, len(ASPECT_RATIOS) * 4, 1)
        # A buffer lies on the device already: making it in a forward pass could not be recorded.
        self.register_buffer("ratios", torch.tensor(ASPECT_RATIOS), persistent=False)

    def forward(
        self, pyramid: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Proposals]:
        return self.proposals(self.candidates(pyramid), sizes)

    def candidates(self, pyramid: Sequence[Tensor]) -> Candidates:
        """Find every level's best boxes."""
        levels = [
            self._candidates(features, stride)
            for features, stride in zip(pyramid, STRIDES, strict=True)
        ]
        scores = torch.cat([level_scores for level_scores, _ in levels], dim=1)
        boxes = torch.cat([level_boxes for _, level_boxes in levels], dim=1)
        level_of = torch.cat(
            [
                torch.full_like(level_scores[0], level, dtype=torch.int64)
                for level, (level_scores, _) in enumerate(levels)
            ]
        )
        return Candidates(scores, boxes, level_of)

    @staticmethod
    def proposals(candidates: Candidates, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Apply NMS to each image's candidates."""
        return [
            _proposals(image_boxes, image_scores, candidates.levels, size)
            for image_boxes, image_scores, size in zip(
                candidates.boxes, candidates.scores, sizes, strict=True
            )
        ]

    def _candidates(self, features: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Return a level's best scores (B, N) and their boxes (B, N, 4), best first."""
        hidden = F.relu(self.conv(features), inplace=True)
        # (B, A, H, W) -> (B, H * W * A), and (B, A * 4, H, W) -> (B, H * W * A, 4)
        logits = self.classify(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.regress(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        ranked = at_least_float32(logits).sigmoid().sort(dim=1, descending=True, stable=True)
        scores = ranked.values[:, :CANDIDATES_PER_LEVEL]
        best = ranked.indices[:, :CANDIDATES_PER_LEVEL]
        height, width = features.shape[2:]
        anchors = grid_anchors(height, width, stride, self.ratios)[best]
        best_deltas = deltas.gather(1, best.unsqueeze(2).expand(-1, -1, 4))
        return scores, decode_boxes(anchors, best_deltas, _STDS)


def _proposals(boxes: Tensor, scores: Tensor, level_of: Tensor, size: tuple[int, int]) -> Proposals:
    boxes = clip_boxes(boxes, size)
    # Removes empty boxes instead of keeping others, so that NaN stays and shows in the result.
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    best = nms(boxes, scores, level_of, IOU_THRESHOLD, among=~empty)[:MAXIMUM_PROPOSALS]
    return Proposals(boxes[best], scores[best])
