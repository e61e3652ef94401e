"""Descriptions of a model for HTTP workers and callers: its input and its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.config import CLASSIFIERS, DETECTORS, MAX_LABEL_MAP_CLASSES, SEGMENTERS, Task
from model.images.preprocess import padded_size
from model.labels.label_file import read_labels
from model.labels.palettes import palette_of
from service.link.messages import FallbackInfo, InputInfo, ModelInfo

if TYPE_CHECKING:
    from model.inference.predictor import Predictor
    from model.inference.preparation import PreparedModel
    from model.zoo import LoadedModel

USUAL_ASPECT_RATIO = 4 / 3
"""Aspect ratio of the image that warms up a dense task."""


def input_of(name: str, task: Task, *, square: bool) -> InputInfo:
    """Describe a model's input.

    Args:
        name: the model's.
        task: the model's.
        square: whether a segmenter stretches every image to one size.
    """
    if task is Task.CLASSIFY:
        side = CLASSIFIERS[name].geometry.crop_size
        return InputInfo(height=side, width=side)
    geometry = SEGMENTERS[name].geometry if task is Task.SEGMENT else DETECTORS[name].geometry
    if task is Task.SEGMENT and square:
        return InputInfo(height=geometry.short_side, width=geometry.short_side)
    return InputInfo(
        short_side=geometry.short_side,
        long_side=geometry.long_side,
        multiple=geometry.multiple,
    )


def describe(
    loaded: LoadedModel,
    task: Task,
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
        loaded: the model.
        task: the model's.
        labels: its classes' names.
        predictor: the model on its device.
        prepared: the outcome of its preparation.
        input_info: the size of its input.
        device: its device's name on the host.
        device_name: the device's own name.
        dtype_reason: the reason for the predictor's dtype.
    """
    known = loaded.weights in {"demo", "random"}
    return ModelInfo(
        name=loaded.name,
        task=task,
        weights=loaded.weights if known else Path(loaded.weights).name,
        weights_sha256=loaded.digest,
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
    )


def usual_input_sizes(info: InputInfo) -> tuple[tuple[int, int], ...]:
    """Return the usual input heights and widths: landscape and portrait, or the only one."""
    if info.height is not None and info.width is not None:
        return ((info.height, info.width),)
    assert info.short_side is not None
    assert info.multiple is not None
    long_side = round(USUAL_ASPECT_RATIO * info.short_side)
    height, width = padded_size(info.short_side, long_side, info.multiple)
    return ((height, width), (width, height))


def labels_of(loaded: LoadedModel, task: Task, labels_file: Path | None) -> tuple[str, ...]:
    """Return the names of a model's classes, in the order of the class ids.

    Args:
        loaded: the model.
        task: the model's.
        labels_file: one name a line; None for the model's own names.

    Raises:
        ValueError: if the file cannot be read or has another number of lines, or if a label map
            has no room for so many classes.
    """
    classes = loaded.network.num_classes
    if task is Task.SEGMENT and classes > MAX_LABEL_MAP_CLASSES:
        raise ValueError(
            f"{loaded.name} has {classes} classes; a label map holds {MAX_LABEL_MAP_CLASSES}."
        )
    if labels_file is None:
        return loaded.labels
    labels = read_labels(labels_file)
    if len(labels) != classes:
        raise ValueError(
            f"The labels file {labels_file} has {len(labels)} lines; "
            f"the network has {classes} classes."
        )
    return labels
