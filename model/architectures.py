"""Build networks by name or shape, with a checkpoint's weights or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from model.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_fit,
    kind_of,
    load_strictly,
)
from model.checkpoints.official_names import official_naming_of
from model.config import (
    CLASSIFIERS,
    DETECTORS,
    SEGMENTERS,
    BackboneConfig,
    ClassifierConfig,
    DetectorConfig,
    NetworkConfig,
    NetworkKind,
    SegmenterConfig,
    Task,
    variant_config,
)
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet

Network = ImageClassifier | UPerNet | MaskRCNN

KINDS: dict[Task, tuple[NetworkKind, ...]] = {
    Task.CLASSIFY: ("classifier",),
    Task.SEGMENT: ("upernet",),
    Task.DETECT: ("mask_rcnn", "cascade_mask_rcnn"),
}
"""Networks on a backbone by the task that they perform."""

HEAD_ENTRIES: dict[NetworkKind, tuple[str, ...]] = {
    "classifier": (),
    "upernet": ("head.pooled.0.conv.weight",),
    "mask_rcnn": ("rpn.conv.weight",),
    "cascade_mask_rcnn": ("rpn.conv.weight", "roi_heads.box_heads.1.classify.weight"),
}
"""Entries that tell ``official_naming_of`` what kind of network a name is of."""


@dataclass(frozen=True)
class Architecture:
    """What a network is built of.

    Attributes:
        config: a row of the tables, or that of a backbone of one's own.
    """

    config: NetworkConfig

    @property
    def task(self) -> Task:
        """The network's task."""
        match self.config:
            case ClassifierConfig():
                return Task.CLASSIFY
            case SegmenterConfig():
                return Task.SEGMENT
            case DetectorConfig():
                return Task.DETECT

    @property
    def kind(self) -> NetworkKind:
        """What is built on the backbone."""
        match self.config:
            case ClassifierConfig():
                return "classifier"
            case SegmenterConfig():
                return "upernet"
            case DetectorConfig(cascade=cascade):
                return "cascade_mask_rcnn" if cascade else "mask_rcnn"

    @property
    def classes_entry(self) -> str:
        """Name of a checkpoint's entry that has one row per class."""
        if isinstance(self.config, DetectorConfig):
            return "roi_heads.mask_heads.0.classify.weight"
        return "head.classify.weight"

    def build(
        self, num_classes: int, *, merged: bool = False, overview_head: bool = False
    ) -> Network:
        """Build the network with PyTorch's random weights.

        Args:
            num_classes: number of classes.
            merged: whether the large kernels' branches are merged.
            overview_head: whether a classifier has the auxiliary head of training.
        """
        backbone = self.config.backbone
        match self.config:
            case ClassifierConfig():
                return ImageClassifier(
                    backbone, num_classes, merged=merged, overview_head=overview_head
                )
            case SegmenterConfig(head_channels=channels):
                return UPerNet(backbone, channels, num_classes, merged=merged)
            case DetectorConfig(cascade=cascade):
                return MaskRCNN(backbone, num_classes, cascade=cascade, merged=merged)


def architecture_of(
    model: str | BackboneConfig, task: Task | str | None = None, kind: NetworkKind | None = None
) -> Architecture:
    """Return the architecture of a name, or of a network on a backbone of one's own.

    Args:
        model: a name, or the backbone.
        task: which network of that name, where there are several (``demo`` classifies unless
            another task is given); of a backbone, the task of its network.
        kind: of the network on a backbone; by default a classifier, or the first one that performs
            the task.

    Raises:
        ValueError: if no network has that name, or none for the task.
    """
    if isinstance(model, BackboneConfig):
        return Architecture(variant_config(model, _kind_for(task, kind)))
    if kind is not None:
        raise ValueError(f"The name {model!r} says what the network is; a kind is of a backbone.")
    return _named(model, task)


def _kind_for(task: Task | str | None, kind: NetworkKind | None) -> NetworkKind:
    if task is None:
        return kind or "classifier"
    kinds = KINDS[Task(task)]
    if kind is not None and kind not in kinds:
        raise ValueError(f"A {kind} does not {task}; {' and '.join(kinds)} do.")
    return kind or kinds[0]


def _named(name: str, task: Task | str | None) -> Architecture:
    tables: dict[Task, Mapping[str, NetworkConfig]] = {
        Task.CLASSIFY: CLASSIFIERS,
        Task.SEGMENT: SEGMENTERS,
        Task.DETECT: DETECTORS,
    }
    usable = [table for kind, table in tables.items() if task in {None, kind}]
    for table in usable:
        if name in table:
            return Architecture(table[name])
    known = dict.fromkeys(known for table in usable for known in table)
    purpose = f" that can {task}" if task else ""
    raise ValueError(f"There is no model {name!r}{purpose}; there are {', '.join(known)}.")


def fitted(architecture: Architecture, checkpoint: Checkpoint) -> Architecture:
    """Take what a backbone does not state from a checkpoint: the width of a segmenter's head.

    Raises:
        CheckpointError: if the checkpoint does not fit, before memory is taken for the network:
            one entry's shape can state a network of any size.
    """
    if isinstance(architecture.config, SegmenterConfig):
        channels = rows_of(architecture, checkpoint, "head.bottleneck.conv.weight")
        architecture = Architecture(replace(architecture.config, head_channels=channels))
    with torch.device("meta"):
        check_fit(_unfilled(architecture, checkpoint), checkpoint)
    return architecture


def network_for(
    architecture: Architecture, checkpoint: Checkpoint, num_classes: int | None
) -> Network:
    """Build a network that fits a checkpoint and load the checkpoint into it.

    Raises:
        CheckpointError: if the checkpoint does not fit, or has another number of classes.
    """
    found = rows_of(architecture, checkpoint, architecture.classes_entry)
    if num_classes is not None and num_classes != found:
        raise CheckpointError(f"{checkpoint.path} has {found} classes, not {num_classes}.")
    network = _unfilled(architecture, checkpoint)
    load_strictly(network, checkpoint)
    return network


def rows_of(architecture: Architecture, checkpoint: Checkpoint, name: str) -> int:
    """Return the number of rows of an entry: of a classifying layer, its number of classes.

    Raises:
        CheckpointError: if there is no such entry.
    """
    weight = checkpoint.state.get(name)
    if weight is None or not weight.ndim or not weight.numel():
        if checkpoint.is_official:
            name = official_naming_of([name, *HEAD_ENTRIES[architecture.kind]])(name)
        kind = kind_of(checkpoint.state)
        reason = "" if kind in {None, architecture.kind} else f": its kind is {kind}"
        raise CheckpointError(
            f"{checkpoint.path} holds no {name}, which a {architecture.kind} has{reason}."
        )
    return weight.shape[0]


def _unfilled(architecture: Architecture, checkpoint: Checkpoint) -> Network:
    return architecture.build(
        rows_of(architecture, checkpoint, architecture.classes_entry),
        merged=checkpoint.merged,
        overview_head="overview_head.classify.weight" in checkpoint.state,
    )


def random_network(architecture: Architecture, num_classes: int) -> Network:
    """Build a network with random weights, the same ones every time, all heads included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return architecture.build(num_classes, overview_head=True)
