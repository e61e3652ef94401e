"""Read the class names and colours that a checkpoint states.

mmsegmentation and mmdetection store both as ``meta`` beside the weights, their successors as
``dataset_meta`` inside it; our own files have them in their metadata, timm's hub has names in a
``config.json``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoints.inert_arrays import InertArray
from model.config import DEFAULT_NUM_CLASSES, Task
from model.labels.tables import Color, ade20k_labels, ade20k_palette, coco_labels, imagenet_labels

logger = logging.getLogger(__name__)


class ClassTableError(ValueError):
    """The class names in a checkpoint are malformed."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a checkpoint, in the order of the class ids; None where it states none.

    Attributes:
        labels: the classes' names.
        palette: their colours.
    """

    labels: tuple[str, ...] | None = None
    palette: tuple[Color, ...] | None = None


_PUBLISHED: dict[Task, ClassTable] = {
    Task.CLASSIFY: ClassTable(imagenet_labels()),
    Task.SEGMENT: ClassTable(ade20k_labels(), ade20k_palette()),
    Task.DETECT: ClassTable(coco_labels()),
}


def names_and_colors(
    stated: ClassTable, task: Task, num_classes: int
) -> tuple[tuple[str, ...], tuple[Color, ...] | None]:
    """Return a network's class names and colours; those of the paper's data set where none fit.

    Args:
        stated: by the checkpoint.
        task: the network's.
        num_classes: the network's outputs. A segmenter of one has a background before its class.

    Raises:
        ClassTableError: if another number of names is stated.
    """
    labels, palette = stated.labels, stated.palette
    if task is Task.SEGMENT and num_classes == 1:
        labels, num_classes = labels or ("class 1",), 2
        labels = ("background", *labels) if len(labels) == 1 else labels
        palette = ((0, 0, 0), *palette) if palette is not None and len(palette) == 1 else palette
    if labels is not None and len(labels) != num_classes:
        raise ClassTableError(
            f"{num_classes} classes, but {len(labels)} class names, in the file or in a "
            "config.json beside it"
        )
    if palette is not None and len(palette) != num_classes:
        palette = None  # the colours of other classes
    published = _PUBLISHED[task]
    if labels is None and num_classes == DEFAULT_NUM_CLASSES[task]:
        labels, palette = published.labels, published.palette
    return labels or tuple(f"class {number}" for number in range(num_classes)), palette


def classes_from_metadata(metadata: Mapping[str, str]) -> ClassTable:
    """Read the metadata of a safetensors file.

    Raises:
        ClassTableError: if they hold something else than class names.
    """
    labels, palette = (_json_of(metadata, name) for name in ("labels", "palette"))
    return ClassTable(
        labels=None if labels is None else _names(labels),
        palette=_colors(palette),
    )


def as_metadata(classes: ClassTable) -> dict[str, str]:
    """Return the metadata from which ``classes_from_metadata`` reads the same classes."""
    return {
        name: json.dumps(value)
        for name, value in (("labels", classes.labels), ("palette", classes.palette))
        if value is not None
    }


def classes_from_meta(contents: Any) -> ClassTable:
    """Read the ``meta`` of a checkpoint of mmsegmentation or mmdetection, if it is one.

    Raises:
        ClassTableError: if it holds something else than class names.
    """
    meta = contents.get("meta") if isinstance(contents, Mapping) else None
    if not isinstance(meta, Mapping):
        return ClassTable()
    stated = meta.get("dataset_meta", meta)
    if not isinstance(stated, Mapping):
        return ClassTable()
    table = {str(key).lower(): value for key, value in stated.items()}
    labels, palette = table.get("classes"), table.get("palette")
    return ClassTable(
        labels=None if labels is None else _names(labels),
        palette=_colors(palette),
    )


def classes_from_hub(config: Mapping[str, Any], path: Path) -> ClassTable:
    """Read a hub's ``config.json``: names, or what they stand for where it describes them.

    Args:
        config: its contents; names that are none are ignored, with a log line.
        path: of the file.
    """
    names, described = config.get("label_names"), config.get("label_descriptions")
    if isinstance(names, Mapping):  # by class id, which JSON keeps as text
        names = [names.get(str(class_id)) for class_id in range(len(names))]
    if names is None:
        return ClassTable()
    described = described if isinstance(described, Mapping) else {}
    try:
        return ClassTable(tuple(str(described.get(name, name)) for name in _names(names)))
    except ClassTableError as error:
        logger.warning("%s states label_names, which are ignored: %s.", path, error)
        return ClassTable()


def _json_of(metadata: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(metadata[name]) if name in metadata else None
    except json.JSONDecodeError as error:
        raise ClassTableError(f"the {name} entry is no JSON: {error}") from error


def _names(labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, list | tuple) or not all(isinstance(name, str) for name in labels):
        raise ClassTableError("the labels are no list of class names")
    return tuple(labels)


def _colors(palette: Any) -> tuple[Color, ...] | None:
    """Read a palette; an invalid one counts as not stated, since colours are decoration."""
    try:
        return tuple(_color(row) for row in _plain(palette))
    except (TypeError, ValueError):
        return None


def _color(row: Any) -> Color:
    red, green, blue = (int(value) for value in _plain(row))
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError("no colour")
    return red, green, blue


def _plain(values: Any) -> Any:
    return values.integers() if isinstance(values, InertArray) else values
