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
from model.demo.supervision import (
    DenselySupervised,
    SupervisedOutputs,
    cells_on_shape,
    dense_loss,
    pointing_loss,
)
from model.heads.classifier import ExplainedLogits, ImageClassifier
from model.lowering.folding import merge_branches
from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES
from model.zoo import create_model


@dataclass(frozen=True)
class ClassificationTask:
    """Name the shape that a scene shows.

    Attributes:
        label_smoothing: probability that the target leaves to the other classes.
        overview_weight: weight of the overview head's loss, relative to the labels'; the authors'.
        dense_weight: weight of the label maps' loss.
        pointing_weight: weight of the class maps' loss.
    """

    label_smoothing: float = 0.05
    overview_weight: float = 0.4
    dense_weight: float = 1.0
    pointing_weight: float = 0.1

    def create_network(self) -> nn.Module:
        """Return the demo classifier with random weights, branches merged, and training heads."""
        network = cast(
            "ImageClassifier",
            create_model("demo", weights="random", num_classes=len(CLASS_NAMES), fused=False),
        )
        return DenselySupervised(merge_branches(network), len(SEGMENT_NAMES))

    def trained(self, network: nn.Module) -> nn.Module:
        """Return the part of the trained network that is kept."""
        return cast("DenselySupervised", network).network

    def loss(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> Tensor:
        """Return the weighted sum of the losses of labels, label maps and class maps, a scalar."""
        found = SupervisedOutputs(*outputs)
        labels = torch.from_numpy(batch.labels)
        label_maps = torch.from_numpy(batch.label_maps).long()
        by_label, by_overview = (
            F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
            for logits in (found.logits, found.overview_logits)
        )
        by_segment = dense_loss((found.stage2_segments, found.focus3_segments), label_maps)
        return (
            by_label
            + self.overview_weight * by_overview
            + self.dense_weight * by_segment
            + self.pointing_weight * pointing_loss(found.class_maps, labels, label_maps)
        )

    def accuracy(self, outputs: tuple[Tensor, ...], batch: SceneBatch) -> float:
        """Return the share of scenes whose highest logit, of (B, classes), is right."""
        logits = SupervisedOutputs(*outputs).logits
        return float((logits.argmax(dim=1).numpy() == batch.labels).mean())


def evaluate_classifier(weights: Path, scenes: int) -> dict[str, Any]:
    """Measure the classifier that users get, folded for inference, on held-out scenes.

    Args:
        weights: path of a weights file for the ``demo`` model.
        scenes: how many held-out scenes, from seed 0.

    Returns:
        ``top1`` and ``top1_by_class``; and ``points_at_shape``, of ``points_at_shape`` by net. All
        are shares from 0 to 1.
    """
    network = cast("ImageClassifier", create_model("demo", weights=weights))
    side_pixels = CLASSIFIERS["demo"].geometry.crop_size
    labels, predictions = [], []
    pointed: dict[str, list[float]] = {}
    with torch.inference_mode():
        for batch in held_out_batches(scenes, side_pixels):
            explained = network.explain(network_input(batch.images))
            predictions.append(explained.logits.argmax(dim=1).numpy())
            labels.append(batch.labels)
            for net, found in points_at_shape(network, explained, batch).items():
                pointed.setdefault(net, []).extend(found)
    label, right = np.concatenate(labels), np.concatenate(labels) == np.concatenate(predictions)
    return {
        "top1": float(right.mean()),
        "top1_by_class": {
            name: round(float(right[label == class_id].mean()), 4)
            for class_id, name in enumerate(CLASS_NAMES)
        },
        "points_at_shape": {net: float(np.mean(found)) for net, found in pointed.items()},
    }


def points_at_shape(
    network: ImageClassifier, explained: ExplainedLogits, batch: SceneBatch
) -> dict[str, list[bool]]:
    """Return whether the class map of each scene's label is highest on the drawn shape.

    A cell is on the shape if the pixel at its middle is.

    Args:
        network: the classifier.
        explained: of the batch's scenes.
        batch: the scenes.

    Returns:
        One answer for each scene, of ``focus`` and, if the network has that head, ``overview``.
    """
    labels = torch.from_numpy(batch.labels)
    label_maps = torch.from_numpy(batch.label_maps).long()
    maps = network.maps_of(explained.focus, explained.overview, labels[:, None])
    return {
        net: _highest(each, cells_on_shape(each, labels, label_maps))
        for net, each in maps._asdict().items()
        if each is not None
    }


def _highest(maps: Tensor, cells: Tensor) -> list[bool]:
    """Return whether the highest position of maps, (B, 1, h, w), is one of the cells, (B, h, w)."""
    highest = maps.flatten(1).argmax(dim=1, keepdim=True)
    found: list[bool] = cells.flatten(1).gather(1, highest).flatten().tolist()
    return found
