"""Makes networks by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch

from model.config import CLASSIFIERS, DEFAULT_NUM_CLASSES, ClassifierConfig
from model.fuse import fold
from model.heads.classifier import ImageClassifier
from model.labels.tables import imagenet_labels
from model.weights import Checkpoint, CheckpointError, load_strictly, read_checkpoint

RELEASE_URL = "https://github.com/LMMMEng/OverLoCK/releases/download/v1"
"""Where the authors published their weights."""


@dataclass(frozen=True)
class LoadedModel:
    """A network and where its weights came from.

    Attributes:
        name: as given to ``create_model``.
        network: in evaluation mode, float32.
        weights: the path, or "demo" or "random".
        digest: SHA-256 of the weights file, hexadecimal; None for random weights.
        labels: class names in the order of the class ids.
    """

    name: str
    network: ImageClassifier
    weights: str
    digest: str | None
    labels: tuple[str, ...]


def create_model(
    name: str, *, weights: str | Path, num_classes: int | None = None, fused: bool = True
) -> ImageClassifier:
    """Create a network in evaluation mode, float32, on the CPU.

    Args:
        name: ``overlock_{xt,t,s,b}`` or ``demo``.
        weights: a path to a checkpoint, ``"demo"`` (bundled, for ``demo`` only) or ``"random"``
            (the same ones every time; they classify nothing).
        num_classes: number of classes; by default the checkpoint's, and 1000 for random weights.
        fused: whether to fold the network for inference (exact up to rounding); otherwise it
            keeps the checkpoint's form, norms and branches included.

    Raises:
        ValueError: for an unknown name or less than one class.
        CheckpointError: if the weights cannot be read or do not fit.
    """
    return load_model(name, weights=weights, num_classes=num_classes, fused=fused).network


def load_model(
    name: str, *, weights: str | Path, num_classes: int | None = None, fused: bool = True
) -> LoadedModel:
    """Create a network as ``create_model`` does, and say what its weights are."""
    config = CLASSIFIERS.get(name)
    if config is None:
        raise ValueError(f"There is no model {name!r}; there are {', '.join(CLASSIFIERS)}.")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"A classifier needs at least one class, not {num_classes}.")
    if weights == "random":
        network = _random_network(config, num_classes or DEFAULT_NUM_CLASSES)
        checkpoint = None
    else:
        checkpoint = _find_checkpoint(name, weights)
        network = _network_for(config, checkpoint, num_classes)
    network.eval()
    if fused:
        fold(network)
    network.requires_grad_(requires_grad=False)
    return LoadedModel(
        name=name,
        network=network,
        weights=str(weights),
        digest=checkpoint.digest if checkpoint else None,
        labels=_labels(checkpoint, network.num_classes),
    )


def _find_checkpoint(name: str, weights: str | Path) -> Checkpoint:
    if weights == "demo":
        if name != "demo":
            raise CheckpointError(f"There are no demo weights for {name}, only for the demo model.")
        with as_file(files("model.demo") / "weights" / "overlock_nano.safetensors") as path:
            return read_checkpoint(path)
    if weights == "pretrained":
        raise CheckpointError(
            f"Weights are not downloaded yet: fetch {RELEASE_URL}/{name}_in1k_224.pth yourself "
            "and give its path."
        )
    return read_checkpoint(Path(weights))


def _network_for(
    config: ClassifierConfig, checkpoint: Checkpoint, num_classes: int | None
) -> ImageClassifier:
    found = checkpoint.num_classes
    if num_classes is not None and num_classes != found:
        raise CheckpointError(f"{checkpoint.path} has {found} classes, not {num_classes}.")
    network = ImageClassifier(config.backbone, found, merged=checkpoint.merged)
    load_strictly(network, checkpoint)
    return network


def _random_network(config: ClassifierConfig, num_classes: int) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ImageClassifier(config.backbone, num_classes)


def _labels(checkpoint: Checkpoint | None, num_classes: int) -> tuple[str, ...]:
    if checkpoint is not None and checkpoint.labels is not None:
        if len(checkpoint.labels) != num_classes:
            raise CheckpointError(
                f"{checkpoint.path} names {len(checkpoint.labels)} of its {num_classes} classes."
            )
        return checkpoint.labels
    if num_classes == len(imagenet_labels()):
        return imagenet_labels()
    return tuple(f"class {class_id}" for class_id in range(num_classes))
