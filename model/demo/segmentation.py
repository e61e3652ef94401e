"""The demo's segmenter: its training task and its evaluation on drawn scenes.

Its backbone starts from the demo's trained classifier, its head from random weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from model.config import CLASSIFIERS, SEGMENTERS
from model.demo.stream import SceneBatch, held_out_batches
from model.evaluation.metrics import SegmentationCounts
from model.heads.upernet import UPerNet
from model.images.preprocess import segmentation_input
from model.inference.predictor import Predictor
from model.lowering.folding import merge_branches
from model.scenes.scenes import SEGMENT_NAMES
from model.zoo import create_model


@dataclass(frozen=True)
class SegmentationTask:
    """Label every pixel with its shape, or as background.

    Attributes:
        region_weight: weight of the overlap's loss, relative to the pixels'; in the former, small
            shapes count as much as large ones.
    """

    region_weight: float = 0.5

    def create_network(self) -> nn.Module:
        """Return the demo segmenter on the demo classifier's backbone, branches merged."""
        network = cast(
            "UPerNet",
            create_model(
                "demo",
                task="segment",
                weights="random",
                num_classes=len(SEGMENT_NAMES),
                fused=False,
            ),
        )
        merge_branches(network)
        classifier = create_model("demo", weights="demo", fused=False)
        network.backbone.load_state_dict(classifier.backbone.state_dict(), strict=False)
        return _InTuple(network)

    def trained(self, network: nn.Module) -> nn.Module:
        """Return the part of the trained network that is kept."""
        return cast("_InTuple", network).network

    def loss(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> Tensor:
        """Return the cross entropy of the pixels and the overlap of the regions, a scalar."""
        label_maps = torch.from_numpy(batch.label_maps).long()
        logits = _at_full_size(outputs[0], label_maps)
        return F.cross_entropy(logits, label_maps) + self.region_weight * _overlap_loss(
            logits, label_maps
        )

    def accuracy(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> float:
        """Return the mean intersection over union of the classes that occur."""
        label_maps = torch.from_numpy(batch.label_maps).long()
        classes = _at_full_size(outputs[0], label_maps).argmax(dim=1)
        truth = F.one_hot(label_maps, len(SEGMENT_NAMES)).bool()
        found = F.one_hot(classes, len(SEGMENT_NAMES)).bool()
        union = (truth | found).sum(dim=(0, 1, 2))
        overlap = (truth & found).sum(dim=(0, 1, 2))
        return float((overlap[union > 0] / union[union > 0]).mean())


def evaluate_segmenter(weights: Path, scenes: int) -> dict[str, Any]:
    """Measure the segmenter that users get, folded for inference, on held-out scenes.

    Args:
        weights: path of a weights file for the ``demo`` segmenter.
        scenes: how many held-out scenes, from seed 0.

    Returns:
        ``miou``, ``pixel_accuracy`` and ``iou_by_class``, shares from 0 to 1.
    """
    network = create_model("demo", task="segment", weights=weights)
    predictor = Predictor(network, torch.device("cpu"), torch.float32)
    geometry = SEGMENTERS["demo"].geometry
    counts = SegmentationCounts(len(SEGMENT_NAMES))
    for batch in held_out_batches(scenes, CLASSIFIERS["demo"].geometry.crop_size):
        images = [segmentation_input(Image.fromarray(image), geometry) for image in batch.images]
        height, width = images[0].shape[:2]
        sizes = [truth.shape for truth in batch.label_maps]
        label_maps = predictor.segment(images, (len(images), height, width), sizes)
        for found, truth in zip(label_maps, batch.label_maps, strict=True):
            assert found is not None, "the demo's logits are finite"
            counts.add(found, truth)
    union = counts.label + counts.predicted - counts.intersect
    by_class = counts.intersect / np.maximum(union, 1)
    return {
        "miou": round(float(by_class.mean()), 4),
        "pixel_accuracy": round(float(counts.intersect.sum() / counts.label.sum()), 4),
        "iou_by_class": {
            name: round(float(share), 4)
            for name, share in zip(SEGMENT_NAMES, by_class, strict=True)
        },
    }


class _InTuple(nn.Module):
    """Returns the logits in a tuple, as the training loop expects them."""

    def __init__(self, network: UPerNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(images),)


def _at_full_size(logits: Tensor, label_maps: Tensor) -> Tensor:
    return F.interpolate(logits, size=label_maps.shape[1:], mode="bilinear", align_corners=False)


def _overlap_loss(logits: Tensor, label_maps: Tensor) -> Tensor:
    """Return 1 minus the Dice coefficient, mean over the classes that occur in the batch."""
    truth = F.one_hot(label_maps, logits.shape[1]).permute(0, 3, 1, 2).float()
    found = logits.softmax(dim=1)
    overlap = (truth * found).sum(dim=(0, 2, 3))
    total = (truth + found).sum(dim=(0, 2, 3))
    occurs = truth.sum(dim=(0, 2, 3)) > 0
    return 1 - (2 * overlap[occurs] / total[occurs]).mean()
