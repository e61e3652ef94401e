"""Supervision beyond the label: by label maps, by the overview, and by where a class map peaks.

A classifier learns shapes far sooner if it also learns from label maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.heads.classifier import ImageClassifier


class SupervisedOutputs(NamedTuple):
    """What the demo's classifier is trained on.

    Attributes:
        logits: (B, classes).
        overview_logits: those of the overview head, (B, classes).
        stage2_segments: a pixel classifier's, (B, segments, h, w), at 1/8 of the input's size.
        focus3_segments: the same at 1/16.
        class_maps: the logits at every position of the last map, (B, classes, h, w), at 1/32.
    """

    logits: Tensor
    overview_logits: Tensor
    stage2_segments: Tensor
    focus3_segments: Tensor
    class_maps: Tensor


class DenselySupervised(nn.Module):
    """A classifier with a pixel classifier on two of its maps, for training alone.

    Args:
        network: the classifier, with an overview head; only its parameters are kept after the
            training.
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
        backbone = network.backbone
        for part in (backbone.stage2, backbone.focus3[-1], network.head.project):
            part.register_forward_hook(self._keep)

    def forward(self, images: Tensor) -> SupervisedOutputs:
        """Compute everything that has a loss; in training mode."""
        self._maps.clear()
        logits, overview_logits = self.network(images)
        stage2, focus3, projected = self._maps
        return SupervisedOutputs(
            logits,
            overview_logits,
            self.stage2_head(stage2),
            self.focus3_head(focus3),
            self.network.head.classify(F.silu(projected)),
        )

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
        total = total + F.cross_entropy(logits, _at_middles(label_maps, logits))
    return total


def pointing_loss(class_maps: Tensor, labels: Tensor, label_maps: Tensor) -> Tensor:
    """Return the mean of -log(share of the label's map that lies on its shape), a scalar.

    The shares of a map are its softmax over all positions. A shape that covers no cell's middle
    does not count.

    Args:
        class_maps: (B, classes, h, w), at a whole fraction of the label maps' size.
        labels: class ids, (B,) int64.
        label_maps: (B, H, W) int64; 1 + class id on a shape.
    """
    own = class_maps[torch.arange(len(labels)), labels].flatten(1)  # (B, h, w) -> (B, h*w)
    inside = cells_on_shape(class_maps, labels, label_maps).flatten(1)
    own, inside = own[inside.any(dim=1)], inside[inside.any(dim=1)]
    on_shape = own.masked_fill(~inside, -torch.inf).logsumexp(dim=1)
    return (own.logsumexp(dim=1) - on_shape).sum() / max(1, len(own))


def cells_on_shape(maps: Tensor, labels: Tensor, label_maps: Tensor) -> Tensor:
    """Return which cells of a map have their middle on the shape of the label.

    Args:
        maps: (B, C, h, w), at a whole fraction of the label maps' size.
        labels: class ids, (B,) int64.
        label_maps: (B, H, W) int64; 1 + class id on a shape.

    Returns:
        (B, h, w) bool.
    """
    return _at_middles(label_maps, maps) == 1 + labels[:, None, None]


def _at_middles(label_maps: Tensor, maps: Tensor) -> Tensor:
    """Return the classes at the middles of a map's cells: (B, H, W) -> (B, h, w)."""
    stride = label_maps.shape[-1] // maps.shape[-1]
    return label_maps[:, stride // 2 :: stride, stride // 2 :: stride]
