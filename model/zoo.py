"""Create networks by name or shape, with their weights and class names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from model.architectures import (
    Architecture,
    Network,
    architecture_of,
    fitted,
    network_for,
    random_network,
    rows_of,
)
from model.backbone.features import FeatureExtractor
from model.checkpoints.backbone_shape import backbone_of
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from model.checkpoints.class_table import ClassTable, ClassTableError, names_and_colors
from model.checkpoints.demo_weights import demo_weights
from model.checkpoints.find_weights import WeightsKind
from model.checkpoints.new_head import with_new_head
from model.config import DEFAULT_NUM_CLASSES, BackboneConfig, NetworkConfig, NetworkKind, Task
from model.images.input_config import InputConfig, InputOptions, input_config
from model.labels.tables import Color
from model.lowering.folding import fold
from model.pretrained.assets import PRETRAINED
from model.pretrained.records import default_folder
from model.pretrained.store import ensure_cached, load_cached
from model.remote.reading import read_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A network and where its weights came from.

    Attributes:
        name: as given to ``create_model``; of a backbone of one's own the kind.
        task: the network's task.
        network: in evaluation mode, float32.
        weights: the path, or the name of a fetched file, or "demo" or "random".
        digest: SHA-256 of that file, hexadecimal; None for random weights.
        labels: class names in the order of the class ids; those of a label map, which has a
            background before a segmenter's only class.
        palette: colours in the same order; None if the weights state none.
        input: what is done to an image, and who stated each value.
        weights_kind: "ema" for averaged weights, else "raw".
        config: backbone, input geometry, and what is published of a named network.
        source: the address of the weights, pinned to a version; None without an address.
    """

    name: str
    task: Task
    network: Network
    weights: str
    digest: str | None
    labels: tuple[str, ...]
    palette: tuple[Color, ...] | None
    input: InputConfig
    weights_kind: WeightsKind
    config: NetworkConfig
    source: str | None = None


@overload
def create_model(
    model: str | BackboneConfig | Mapping[str, object],
    *,
    weights: str | Path,
    task: Task | str | None = None,
    kind: NetworkKind | None = None,
    num_classes: int | None = None,
    fused: bool = True,
    drop_path_rate: float = 0.0,
    features: Literal[False] = False,
    pretrained_folder: Path | None = None,
    ema: bool = True,
) -> Network: ...


@overload
def create_model(
    model: str | BackboneConfig | Mapping[str, object],
    *,
    weights: str | Path,
    task: Task | str | None = None,
    kind: NetworkKind | None = None,
    num_classes: int | None = None,
    fused: bool = True,
    drop_path_rate: float = 0.0,
    features: Literal[True],
    pretrained_folder: Path | None = None,
    ema: bool = True,
) -> FeatureExtractor: ...


def create_model(
    model: str | BackboneConfig | Mapping[str, object],
    *,
    weights: str | Path,
    task: Task | str | None = None,
    kind: NetworkKind | None = None,
    num_classes: int | None = None,
    fused: bool = True,
    drop_path_rate: float = 0.0,
    features: bool = False,
    pretrained_folder: Path | None = None,
    ema: bool = True,
) -> Network | FeatureExtractor:
    """Create a network in evaluation mode, float32, on the CPU.

    Args:
        model: ``overlock_{xt,t,s,b}``, ``upernet_overlock_{xt,t,s,b}``,
            ``mask_rcnn_overlock_{xt,t,s,b}``, ``cascade_mask_rcnn_overlock_{xt,t,s,b}`` or
            ``demo``; or a backbone of one's own, whole or as those of its fields that are to be
            compared with the checkpoint, which states all of them (``{}`` takes it as it is).
        weights: a path to a checkpoint, an address (``docs/checkpoints.md``), ``"pretrained"``
            (the authors' file, downloaded once), ``"demo"`` (bundled, for ``demo`` only) or
            ``"random"`` (the same ones every time; they recognise nothing).
        task: which network of that name, where there are several: ``demo`` classifies unless
            this is ``"segment"``.
        kind: on a backbone of one's own, ``"classifier"``, ``"upernet"``, ``"mask_rcnn"`` or
            ``"cascade_mask_rcnn"``; by default the first of them that performs the task.
        num_classes: number of classes; by default the checkpoint's, and those of ImageNet-1K,
            ADE20K or COCO for random weights. With ``fused=False`` another number than the
            checkpoint's makes a new, random head, which is logged.
        fused: whether to fold the network for inference (exact up to rounding); otherwise it
            keeps the checkpoint's form, norms and branches included, and can be trained:
            parameters require gradients, and after ``train()`` a classifier with the auxiliary
            head returns its logits and that head's.
        drop_path_rate: with ``fused=False``, how often training drops the last block's residual
            branches; the rate grows linearly from 0 at the first block.
        features: whether to return the backbone alone, whose call returns its four maps.
        pretrained_folder: where fetched weights are kept, except a hub's; by default
            ``~/.cache/overlock-service/weights``.
        ema: whether to prefer averaged weights (EMA); otherwise the raw ones are required.

    Raises:
        ValueError: for an unknown name, a backbone that cannot be, less than one class, a drop
            path rate below 0 or not below 1, or one for a folded network.
        PretrainedError, RemoteError: if there are no such weights, or they cannot be fetched.
        CheckpointError: if the weights cannot be read or do not fit.
    """
    network = load_model(
        model,
        weights=weights,
        task=task,
        kind=kind,
        num_classes=num_classes,
        fused=fused,
        drop_path_rate=drop_path_rate,
        pretrained_folder=pretrained_folder,
        ema=ema,
    ).network
    return FeatureExtractor(network.backbone) if features else network


def load_model(
    model: str | BackboneConfig | Mapping[str, object],
    *,
    weights: str | Path,
    task: Task | str | None = None,
    kind: NetworkKind | None = None,
    num_classes: int | None = None,
    fused: bool = True,
    drop_path_rate: float = 0.0,
    pretrained_folder: Path | None = None,
    ema: bool = True,
    input_options: InputOptions | None = None,
) -> LoadedModel:
    """Create a network as ``create_model`` does; return it with facts about its weights.

    Args:
        model: as ``create_model`` takes it, like the following ones.
        weights: see there.
        task: see there.
        kind: see there.
        num_classes: see there.
        fused: see there.
        drop_path_rate: see there.
        pretrained_folder: see there.
        ema: see there.
        input_options: what the caller states of the network's input; it comes before the
            checkpoint's word and the architecture's default.

    Raises:
        ValueError: also for an input option that does not fit the network.
    """
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"A network needs at least one class, not {num_classes}.")
    if not 0 <= drop_path_rate < 1 or (drop_path_rate and fused):
        raise ValueError(
            f"drop_path_rate is {drop_path_rate}: it is from 0 to less than 1, and above 0 only "
            "with fused=False."
        )
    if isinstance(model, str):
        architecture = architecture_of(model, task, kind)
        checkpoint = _find_checkpoint(model, architecture.task, weights, pretrained_folder, ema=ema)
    else:
        checkpoint = _find_checkpoint(None, Task.CLASSIFY, weights, pretrained_folder, ema=ema)
        architecture = _variant(model, task, kind, checkpoint)
    if checkpoint is None:
        network = random_network(
            architecture, num_classes or DEFAULT_NUM_CLASSES[architecture.task]
        )
    else:
        checkpoint = _for_classes(architecture, checkpoint, num_classes, fused=fused)
        network = network_for(architecture, checkpoint, num_classes)
        _log_choice(checkpoint)
    network.backbone.set_drop_path(drop_path_rate)
    network.eval()
    if fused:
        fold(network).requires_grad_(requires_grad=False)
    fetched = weights == PRETRAINED or (checkpoint and checkpoint.source)
    labels, palette = _classes(checkpoint, architecture.task, network.num_classes)
    return LoadedModel(
        name=model if isinstance(model, str) else architecture.kind,
        task=architecture.task,
        network=network,
        weights=checkpoint.path.name if checkpoint and fetched else str(weights),
        source=checkpoint.source if checkpoint else None,
        digest=checkpoint.digest if checkpoint else None,
        labels=labels,
        palette=palette,
        input=input_config(
            architecture.config.geometry,
            network.backbone.in_channels,
            file=input_options,
            checkpoint=checkpoint.input if checkpoint else None,
        ),
        weights_kind=checkpoint.weights_kind if checkpoint else "raw",
        config=architecture.config,
    )


def _for_classes(
    architecture: Architecture, checkpoint: Checkpoint, num_classes: int | None, *, fused: bool
) -> Checkpoint:
    """Return the checkpoint, with a new head if another number of classes is wanted."""
    found = rows_of(architecture, checkpoint, architecture.classes_entry)
    if num_classes is None or num_classes == found:
        return checkpoint
    if fused:
        raise CheckpointError(
            f"{checkpoint.path} has {found} classes, not {num_classes}. A new head, which has to "
            "be trained, needs fused=False."
        )
    return with_new_head(checkpoint, num_classes)


def _variant(
    model: BackboneConfig | Mapping[str, object],
    task: Task | str | None,
    kind: NetworkKind | None,
    checkpoint: Checkpoint | None,
) -> Architecture:
    """Return the architecture of a backbone of one's own, with what the checkpoint states."""
    given = model if isinstance(model, Mapping) else vars(model)
    if checkpoint is not None:
        backbone = backbone_of(checkpoint, given)
        return fitted(architecture_of(backbone, task, kind), checkpoint)
    if not isinstance(model, BackboneConfig):
        raise ValueError("A backbone for random weights is a whole BackboneConfig.")
    return architecture_of(model, task, kind)


def _find_checkpoint(
    name: str | None, task: Task, weights: str | Path, folder: Path | None, *, ema: bool
) -> Checkpoint | None:
    """Return the checkpoint of a network, whose name is None for one's own; None if random."""
    if weights == "random":
        return None
    if name is None and weights in {"demo", PRETRAINED}:
        raise CheckpointError(
            f"There are no {weights} weights of a backbone of one's own: give a path, or random."
        )
    if weights == "demo":
        if name != "demo":
            raise CheckpointError(f"There are no demo weights for {name}, only for the demo model.")
        with demo_weights(task) as path:
            return read_checkpoint(path)
    if name is not None and weights == PRETRAINED:
        folder = folder or default_folder()
        ensure_cached(name, folder)
        return load_cached(name, folder)
    return read_weights(weights, folder, ema=ema)


def _log_choice(checkpoint: Checkpoint) -> None:
    if not checkpoint.has_both:
        return
    if checkpoint.weights_kind == "ema":
        choice = "the EMA ones are used (ema = false or --raw takes the others)"
    else:
        choice = "the raw ones are used, as ema = false or --raw says"
    logger.info("%s holds EMA and raw weights; %s.", checkpoint.path, choice)


def _classes(
    checkpoint: Checkpoint | None, task: Task, num_classes: int
) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Return the classes' names and colours."""
    if checkpoint is None:
        return names_and_colors(ClassTable(), task, num_classes)
    try:
        return names_and_colors(checkpoint.classes, task, num_classes)
    except ClassTableError as error:
        raise CheckpointError(f"{checkpoint.path} has {error}.") from error
