"""Makes networks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch

from model.checkpoint_classes import ClassTable
from model.config import CLASSIFIERS, DEFAULT_NUM_CLASSES, DETECTORS, SEGMENTERS, Task
from model.fuse import fold
from model.heads.classifier import ImageClassifier
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.labels.tables import (
    Color,
    ade20k_labels,
    ade20k_palette,
    coco_labels,
    imagenet_labels,
)
from model.weights import Checkpoint, CheckpointError, load_strictly, read_checkpoint

RELEASE_URL = "https://github.com/LMMMEng/OverLoCK/releases/download/v1"
"""Where the authors published their weights."""

DEMO_WEIGHTS = {
    Task.CLASSIFY: "overlock_nano.safetensors",
    Task.SEGMENT: "upernet_nano.safetensors",
}
"""Files in ``model/demo/weights`` by task."""

_PUBLISHED_CLASSES: dict[Task, ClassTable] = {
    Task.CLASSIFY: ClassTable(imagenet_labels()),
    Task.SEGMENT: ClassTable(ade20k_labels(), ade20k_palette()),
    Task.DETECT: ClassTable(coco_labels()),
}

Network = ImageClassifier | UPerNet | MaskRCNN


@dataclass(frozen=True)
class LoadedModel:
    """A network and where its weights came from.

    Attributes:
        name: as given to ``create_model``.
        task: what the network answers.
        network: in evaluation mode, float32.
        weights: the path, or "demo" or "random".
        digest: SHA-256 of the weights file, hexadecimal; None for random weights.
        labels: class names in the order of the class ids.
        palette: colours in the same order; None if the weights state none.
    """

    name: str
    task: Task
    network: Network
    weights: str
    digest: str | None
    labels: tuple[str, ...]
    palette: tuple[Color, ...] | None


@dataclass(frozen=True)
class _Architecture:
    """How a named network is built, and where it says how many classes it has."""

    task: Task
    build: Callable[[int, bool], Network]
    classes_entry: str


def create_model(
    name: str,
    *,
    weights: str | Path,
    task: Task | str | None = None,
    num_classes: int | None = None,
    fused: bool = True,
) -> Network:
    """Create a network in evaluation mode, float32, on the CPU.

    Args:
        name: ``overlock_{xt,t,s,b}``, ``upernet_overlock_{xt,t,s,b}``,
            ``mask_rcnn_overlock_{xt,t,s,b}``, ``cascade_mask_rcnn_overlock_{xt,t,s,b}`` or
            ``demo``.
        weights: a path to a checkpoint, ``"demo"`` (bundled, for ``demo`` only) or ``"random"``
            (the same ones every time; they recognise nothing).
        task: which network of that name, where there are several: ``demo`` classifies unless
            this is ``"segment"``.
        num_classes: number of classes; by default the checkpoint's, and those of ImageNet-1K,
            ADE20K or COCO for random weights.
        fused: whether to fold the network for inference (exact up to rounding); otherwise it
            keeps the checkpoint's form, norms and branches included.

    Raises:
        ValueError: for an unknown name or less than one class.
        CheckpointError: if the weights cannot be read or do not fit.
    """
    return load_model(
        name, weights=weights, task=task, num_classes=num_classes, fused=fused
    ).network


def load_model(
    name: str,
    *,
    weights: str | Path,
    task: Task | str | None = None,
    num_classes: int | None = None,
    fused: bool = True,
) -> LoadedModel:
    """Create a network as ``create_model`` does, and say what its weights are."""
    architecture = _architecture(name, task)
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"A network needs at least one class, not {num_classes}.")
    if weights == "random":
        network = _random_network(
            architecture, num_classes or DEFAULT_NUM_CLASSES[architecture.task]
        )
        checkpoint = None
    else:
        checkpoint = _find_checkpoint(name, architecture.task, weights)
        network = _network_for(architecture, checkpoint, num_classes)
    network.eval()
    if fused:
        fold(network)
    network.requires_grad_(requires_grad=False)
    classes = _classes(checkpoint, architecture.task, network.num_classes)
    return LoadedModel(
        name=name,
        task=architecture.task,
        network=network,
        weights=str(weights),
        digest=checkpoint.digest if checkpoint else None,
        labels=classes.labels or tuple(f"class {number}" for number in range(network.num_classes)),
        palette=classes.palette,
    )


def _architecture(name: str, task: Task | str | None) -> _Architecture:
    if name in CLASSIFIERS and task in {None, Task.CLASSIFY}:
        backbone = CLASSIFIERS[name].backbone
        return _Architecture(
            Task.CLASSIFY,
            lambda classes, merged: ImageClassifier(backbone, classes, merged=merged),
            "head.classify.weight",
        )
    if name in SEGMENTERS and task in {None, Task.SEGMENT}:
        segmenter = SEGMENTERS[name]
        return _Architecture(
            Task.SEGMENT,
            lambda classes, merged: UPerNet(
                segmenter.backbone, segmenter.head_channels, classes, merged=merged
            ),
            "head.classify.weight",
        )
    if name in DETECTORS and task in {None, Task.DETECT}:
        detector = DETECTORS[name]
        return _Architecture(
            Task.DETECT,
            lambda classes, merged: MaskRCNN(
                detector.backbone, classes, cascade=detector.cascade, merged=merged
            ),
            "roi_heads.mask_heads.0.classify.weight",
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


def _find_checkpoint(name: str, task: Task, weights: str | Path) -> Checkpoint:
    if weights == "demo":
        if name != "demo":
            raise CheckpointError(f"There are no demo weights for {name}, only for the demo model.")
        with as_file(files("model.demo") / "weights" / DEMO_WEIGHTS[task]) as path:
            return read_checkpoint(path)
    if weights == "pretrained":
        raise CheckpointError(
            f"Weights are not downloaded yet: fetch {name}'s file from {RELEASE_URL} yourself "
            "and give its path."
        )
    return read_checkpoint(Path(weights))


def _network_for(
    architecture: _Architecture, checkpoint: Checkpoint, num_classes: int | None
) -> Network:
    found = checkpoint.rows_of(architecture.classes_entry)
    if num_classes is not None and num_classes != found:
        raise CheckpointError(f"{checkpoint.path} has {found} classes, not {num_classes}.")
    network = architecture.build(found, checkpoint.merged)
    load_strictly(network, checkpoint)
    return network


def _random_network(architecture: _Architecture, num_classes: int) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return architecture.build(num_classes, False)


def _classes(checkpoint: Checkpoint | None, task: Task, num_classes: int) -> ClassTable:
    """Return what the checkpoint says of its classes; of the paper's data sets, what is known."""
    stated = checkpoint.classes if checkpoint else ClassTable()
    if checkpoint and stated.labels is not None and len(stated.labels) != num_classes:
        raise CheckpointError(
            f"{checkpoint.path} has {num_classes} classes and names of {len(stated.labels)}."
        )
    if stated.palette is not None and len(stated.palette) != num_classes:
        stated = ClassTable(stated.labels)  # colours of other classes are nobody's
    if stated.labels is None and num_classes == DEFAULT_NUM_CLASSES[task]:
        return _PUBLISHED_CLASSES[task]
    return stated
