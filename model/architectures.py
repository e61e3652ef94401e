"""Build networks by name, with a checkpoint's weights or random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from model.checkpoints.checkpoint import Checkpoint, CheckpointError, load_strictly
from model.config import (
    CLASSIFIERS,
    DETECTORS,
    SEGMENTERS,
    ClassificationGeometry,
    ScaledGeometry,
    Task,
)
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet

Network = ImageClassifier | UPerNet | MaskRCNN


@dataclass(frozen=True)
class Architecture:
    """A named network's task and constructor.

    Attributes:
        task: the network's task.
        build: takes the number of classes, and whether the large kernels' branches are merged.
        classes_entry: name of a checkpoint's entry that has one row per class.
        geometry: of the network's input.
    """

    task: Task
    build: Callable[[int, bool], Network]
    classes_entry: str
    geometry: ClassificationGeometry | ScaledGeometry


def architecture_of(name: str, task: Task | str | None = None) -> Architecture:
    """Return a named architecture; ``demo`` is the classifier unless another task is given.

    Raises:
        ValueError: if no network has that name, or none for the task.
    """
    if name in CLASSIFIERS and task in {None, Task.CLASSIFY}:
        backbone = CLASSIFIERS[name].backbone
        return Architecture(
            Task.CLASSIFY,
            lambda classes, merged: ImageClassifier(backbone, classes, merged=merged),
            "head.classify.weight",
            CLASSIFIERS[name].geometry,
        )
    if name in SEGMENTERS and task in {None, Task.SEGMENT}:
        segmenter = SEGMENTERS[name]
        return Architecture(
            Task.SEGMENT,
            lambda classes, merged: UPerNet(
                segmenter.backbone, segmenter.head_channels, classes, merged=merged
            ),
            "head.classify.weight",
            segmenter.geometry,
        )
    if name in DETECTORS and task in {None, Task.DETECT}:
        detector = DETECTORS[name]
        return Architecture(
            Task.DETECT,
            lambda classes, merged: MaskRCNN(
                detector.backbone, classes, cascade=detector.cascade, merged=merged
            ),
            "roi_heads.mask_heads.0.classify.weight",
            detector.geometry,
        )
    names = {
        Task.CLASSIFY: [*CLASSIFIERS],
        Task.SEGMENT: [*SEGMENTERS],
        Task.DETECT: [*DETECTORS],
    }
    known = [known for kind, names in names.items() if task in {None, kind} for known in names]
    purpose = f" that can {task}" if task else ""
    raise ValueError(
        f"There is no model {name!r}{purpose}; there are {', '.join(dict.fromkeys(known))}."
    )


def network_for(
    architecture: Architecture, checkpoint: Checkpoint, num_classes: int | None
) -> Network:
    """Build a network that fits a checkpoint and load the checkpoint into it.

    Raises:
        CheckpointError: if the checkpoint does not fit, or has another number of classes.
    """
    found = checkpoint.rows_of(architecture.classes_entry)
    if num_classes is not None and num_classes != found:
        raise CheckpointError(f"{checkpoint.path} has {found} classes, not {num_classes}.")
    network = architecture.build(found, checkpoint.merged)
    load_strictly(network, checkpoint)
    return network


def random_network(architecture: Architecture, num_classes: int) -> Network:
    """Build a network with random weights, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return architecture.build(num_classes, False)
