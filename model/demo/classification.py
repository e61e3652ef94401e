"""The demo's classifier: its training task and its evaluation on drawn scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import CLASSIFIERS
from model.demo.loop import network_input
from model.demo.stream import SceneBatch, held_out_batches
from model.demo.supervision import DenselySupervised, dense_loss
from model.heads.classifier import ImageClassifier
from model.lowering.folding import merge_branches
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES
from model.zoo import create_model


@dataclass(frozen=True)
class ClassificationTask:
    """Name the shape that a scene shows.

    Attributes:
        label_smoothing: probability that the target leaves to the other classes.
        dense_weight: weight of the label maps' loss, relative to the labels'.
    """

    label_smoothing: float = 0.05
    dense_weight: float = 1.0

    def create_network(self) -> nn.Module:
        """Return the demo classifier with random weights, branches merged, and training heads."""
        network = cast(
            "ImageClassifier",
            create_model("demo", weights="random", num_classes=len(CLASS_NAMES), fused=False),
        )
        network.overview_head = None  # the label maps supervise more than it would
        return DenselySupervised(merge_branches(network), len(SEGMENT_NAMES))

    def trained(self, network: nn.Module) -> nn.Module:
        """Return the part of the trained network that is kept."""
        return cast("DenselySupervised", network).network

    def loss(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> Tensor:
        """Return the cross entropy of labels and label maps, a scalar."""
        logits, *segment_logits = outputs
        labels = torch.from_numpy(batch.labels)
        label_maps = torch.from_numpy(batch.label_maps).long()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return loss + self.dense_weight * dense_loss(segment_logits, label_maps)

    def accuracy(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> float:
        """Return the share of scenes whose highest logit, of (B, classes), is right."""
        return float((outputs[0].argmax(dim=1).numpy() == batch.labels).mean())


def evaluate_classifier(weights: Path, scenes: int) -> dict[str, Any]:
    """Measure the classifier that users get, folded for inference, on held-out scenes.

    Args:
        weights: path of a weights file for the ``demo`` model.
        scenes: how many held-out scenes, from seed 0.

    Returns:
        ``top1`` and ``top1_by_class``, shares from 0 to 1.
    """
    network = create_model("demo", weights=weights)
    side_pixels = CLASSIFIERS["demo"].geometry.crop_size
    labels, predictions = [], []
    with torch.inference_mode():
        for batch in held_out_batches(scenes, side_pixels):
            logits = network(network_input(batch.images))
            predictions.append(logits.argmax(dim=1).numpy())
            labels.append(batch.labels)
    label, right = np.concatenate(labels), np.concatenate(labels) == np.concatenate(predictions)
    return {
        "top1": float(right.mean()),
        "top1_by_class": {
            name: round(float(right[label == class_id].mean()), 4)
            for class_id, name in enumerate(CLASS_NAMES)
        },
    }
