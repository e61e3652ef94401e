"""Dense supervision: a classifier learns shapes far sooner if it also learns from label maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.heads.classifier import ImageClassifier


class DenselySupervised(nn.Module):
    """A classifier with a pixel classifier on two of its maps, for training alone.

    Args:
        network: the classifier; only its parameters are kept after the training.
        num_segments: classes of the label maps.
    """

    def __init__(self, network: ImageClassifier, num_segments: int) -> None:
        super().__init__()
        self.network = network
        config = network.backbone.config
        self.stage2_head = nn.Conv2d(config.channels[1], num_segments, 1)
        focus_channels = config.channels[2] + config.context_channels
        self.focus3_head = nn.Conv2d(focus_channels, num_segments, 1)
        self._maps: list[Tensor] = []
        for part in (network.backbone.stage2, network.backbone.focus3[-1]):
            part.register_forward_hook(self._keep)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return class logits (B, classes), and segment logits at 1/8 and 1/16 of the input."""
        self._maps.clear()
        logits = self.network(images)
        stage2, focus3 = self._maps
        return logits, self.stage2_head(stage2), self.focus3_head(focus3)

    def _keep(self, part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._maps.append(output)


def dense_loss(segment_logits: Sequence[Tensor], label_maps: Tensor) -> Tensor:
    """Return the cross entropy against the label maps, summed over the maps, a scalar.

    Args:
        segment_logits: each (B, segments, h, w), at a whole fraction of the label maps' size.
        label_maps: (B, H, W) int64; the pixel at the middle of a cell is its class.
    """
    total = torch.zeros(())
    for logits in segment_logits:
        stride = label_maps.shape[-1] // logits.shape[-1]
        middles = label_maps[:, stride // 2 :: stride, stride // 2 :: stride]
        total = total + F.cross_entropy(logits, middles)
    return total
