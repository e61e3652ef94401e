"""Descriptions of a model for HTTP workers and callers, and the setting that a mistake is in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.config import MAX_LABEL_MAP_CLASSES, ClassificationGeometry, Task
from model.images.input_config import InputConfig, InputOptionError
from model.images.preprocess import padded_size
from model.labels.label_file import read_labels
from model.labels.palettes import palette_of
from service.link.messages import FallbackInfo, InputInfo, ModelInfo
from service.settings import Activation, ModelSpec

if TYPE_CHECKING:
    from model.inference.predictor import Predictor
    from model.inference.preparation import PreparedModel
    from model.zoo import LoadedModel

logger = logging.getLogger(__name__)

USUAL_ASPECT_RATIO = 4 / 3
"""Aspect ratio of the image that warms up a dense task."""


def input_of(config: InputConfig, task: Task, *, square: bool) -> InputInfo:
    """Describe a model's input.

    Args:
        config: what is done to an image.
        task: the model's.
        square: whether a segmenter stretches every image to one size.
    """
    shared: dict[str, Any] = {
        "mean": config.mean,
        "std": config.std,
        "sources": {name: str(source) for name, source in config.sources.items()},
    }
    geometry = config.geometry
    if isinstance(geometry, ClassificationGeometry):
        return InputInfo(
            height=geometry.crop_size,
            width=geometry.crop_size,
            crop_pct=geometry.crop_fraction,
            interpolation=geometry.interpolation,
            **shared,
        )
    if task is Task.SEGMENT and square:
        return InputInfo(height=geometry.short_side, width=geometry.short_side, **shared)
    return InputInfo(
        short_side=geometry.short_side,
        long_side=geometry.long_side,
        multiple=geometry.multiple,
        **shared,
    )


def activation_of(stated: Activation | None, classes: int) -> Activation:
    """Return what makes scores of a classifier's logits.

    Args:
        stated: by the models file; None for sigmoid of one output, and softmax of several.
        classes: number of outputs.

    Raises:
        ValueError: for the softmax of one output, which is 1 whatever the image shows.
    """
    if stated == "softmax" and classes == 1:
        raise ValueError(
            "the softmax of one output is 1 for every image; give sigmoid, or leave it out"
        )
    return stated or ("sigmoid" if classes == 1 else "softmax")


def describe(
    spec: ModelSpec,
    loaded: LoadedModel,
    labels: tuple[str, ...],
    predictor: Predictor,
    prepared: PreparedModel,
    *,
    input_info: InputInfo,
    device: str,
    device_name: str,
    dtype_reason: str,
) -> ModelInfo:
    """Describe a prepared model for HTTP workers and callers.

    Args:
        spec: as it was stated.
        loaded: the model.
        labels: its classes' names.
        predictor: the model on its device.
        prepared: the outcome of its preparation.
        input_info: what is done to an image.
        device: its device's name on the host.
        device_name: the device's own name.
        dtype_reason: the reason for the predictor's dtype.
    """
    known = loaded.weights in {"demo", "random"}
    with blaming(spec.blame("activation")):
        outputs = loaded.network.num_classes if spec.task is Task.CLASSIFY else len(labels)
        activation = activation_of(spec.activation, outputs)
    return ModelInfo(
        name=spec.name,
        task=spec.task,
        architecture=loaded.name,
        weights=loaded.weights if known else Path(loaded.weights).name,
        weights_source=loaded.source,
        weights_sha256=loaded.digest,
        weights_kind=loaded.weights_kind,
        activation=activation,
        labels=labels,
        colors=loaded.palette or palette_of(labels),
        input=input_info,
        device=device,
        device_name=device_name,
        dtype=str(predictor.dtype).removeprefix("torch."),
        dtype_reason=dtype_reason,
        kernels=predictor.kernels,
        compiled=prepared.compiled,
        compiled_reason=prepared.compiled_reason,
        batch_sizes=prepared.batch_sizes,
        fallbacks=tuple(FallbackInfo(each.what, each.reason) for each in predictor.fallbacks),
        layers=loaded.network.layer_dimensions,
        has_overview=getattr(loaded.network, "overview_head", None) is not None,
    )


def log_model(model: ModelInfo) -> None:
    """Say where a model's weights are from, how it computes, and what is done to its images."""
    if model.weights_source is not None:
        digest = model.weights_sha256
        logger.info("%s %s: %s, SHA-256 %s.", model.task, model.name, model.weights_source, digest)
    logger.info(
        "%s %s: %s (%s), kernels: %s, %s (%s).",
        model.task,
        model.name,
        model.dtype,
        model.dtype_reason,
        model.kernels,
        "compiled" if model.compiled else "not compiled",
        model.compiled_reason,
    )
    info = model.input
    values = {
        "input_size": info.height,
        "crop_pct": info.crop_pct,
        "interpolation": info.interpolation,
        "mean": _spaced(info.mean),
        "std": _spaced(info.std),
    }
    logger.info(
        "%s %s: %s weights%s; %s.",
        model.task,
        model.name,
        {"ema": "EMA", "raw": "raw"}[model.weights_kind],
        f", {model.activation}" if model.task is Task.CLASSIFY else "",
        ", ".join(f"{name} {values[name]} ({info.sources[name]})" for name in info.sources),
    )


def _spaced(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


@contextmanager
def blaming(setting: str, spec: ModelSpec | None = None) -> Iterator[None]:
    """Begin the message of a ValueError with the setting to change.

    Args:
        setting: a variable, or a key of the models file.
        spec: states the input that can be wrong instead, of which the error says the value.
    """
    try:
        yield
    except InputOptionError as error:
        blamed = setting if spec is None else spec.blame(error.name)
        raise ValueError(f"{blamed}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error


def usual_input_sizes(info: InputInfo) -> tuple[tuple[int, int], ...]:
    """Return the usual input heights and widths: landscape and portrait, or the only one."""
    if info.height is not None and info.width is not None:
        return ((info.height, info.width),)
    assert info.short_side is not None
    assert info.multiple is not None
    long_side = round(USUAL_ASPECT_RATIO * info.short_side)
    height, width = padded_size(info.short_side, long_side, info.multiple)
    return ((height, width), (width, height))


def warm_up_sizes(model: ModelInfo, device_type: str) -> tuple[int, ...]:
    """Return the sizes of the batches that warm a model up.

    On a GPU every batch size runs, since each needs its kernels chosen and its memory allocated. On
    a CPU two sizes determine the cost's line, or one where input sizes vary.
    """
    if device_type == "cuda":
        return model.batch_sizes
    return model.batch_sizes[:3:2] if model.task is Task.CLASSIFY else model.batch_sizes[:1]


def check_digest(spec: ModelSpec, loaded: LoadedModel) -> None:
    """Check that the weights are those that were meant.

    Raises:
        ValueError: if they have another SHA-256 than was stated.
    """
    if spec.sha256 not in {None, loaded.digest}:
        raise ValueError(
            f"the SHA-256 of {loaded.source or loaded.weights} is {loaded.digest or 'none'}, but "
            f"{spec.blame('sha256')} is {spec.sha256}"
        )


def labels_of(loaded: LoadedModel, task: Task, labels_file: Path | None) -> tuple[str, ...]:
    """Return the names of a model's classes, in the order of the class ids.

    Args:
        loaded: the model.
        task: the model's.
        labels_file: one name a line; None for the model's own names. Of a segmenter with one
            output it names the background too, or the other class alone.

    Raises:
        ValueError: if the file cannot be read or has another number of lines, or if a label map
            has no room for so many classes.
    """
    classes = len(loaded.labels)
    if task is Task.SEGMENT and classes > MAX_LABEL_MAP_CLASSES:
        raise ValueError(
            f"{loaded.name} has {classes} classes; a label map holds {MAX_LABEL_MAP_CLASSES}."
        )
    if labels_file is None:
        return loaded.labels
    labels = read_labels(labels_file)
    if len(labels) == loaded.network.num_classes == 1 < classes:
        labels = loaded.labels[:1] + labels
    if len(labels) != classes:
        raise ValueError(
            f"The labels file {labels_file} has {len(labels)} lines; "
            f"the network has {classes} classes."
        )
    return labels
