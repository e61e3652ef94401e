"""Set up an evaluation: the data set, the measurement and its counts.

A detector is measured on COCO's annotations alone: the drawn scenes have no boxes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from model.config import ClassificationGeometry, ScaledGeometry, Task
from model.evaluation.average_precision import DetectionResults
from model.evaluation.coco import CocoDataset, category_ids, read_annotations
from model.evaluation.datasets import ImageFolder, SegmentationFolder
from model.evaluation.drawn import DrawnLabelMaps, DrawnScenes
from model.evaluation.images import EvaluationError
from model.evaluation.measuring import Classification, DataSet, Detection, Measurement, Segmentation
from model.evaluation.metrics import ClassificationCounts, SegmentationCounts
from model.evaluation.report import Counts
from model.images.preprocess import classification_input, detection_input, segmentation_input
from model.inference.predictor import Predictor
from model.zoo import LoadedModel


@dataclass(frozen=True)
class Setup:
    """The parts of an evaluation.

    Attributes:
        place: folder of the data, or "demo".
        data: the data set.
        measurement: runs the network and counts.
        counts: the counts of ``measurement``.
        batch_size: images in a forward pass.
        settings: other options that affect the result.
    """

    place: str
    data: DataSet[Any]
    measurement: Measurement[Any]
    counts: Counts
    batch_size: int
    settings: dict[str, Any]


def set_up(arguments: argparse.Namespace, loaded: LoadedModel, predictor: Predictor) -> Setup:
    """Set up the evaluation that the arguments name.

    Args:
        arguments: of ``service.commands.evaluate.arguments``.
        loaded: the network, with its classes and its input.
        predictor: runs the network.

    Raises:
        EvaluationError: if the data are missing or do not fit the network, or it cannot be
            measured by these metrics.
    """
    return _SETUPS[Task(arguments.task)](arguments, loaded, predictor)


def _classification(
    arguments: argparse.Namespace, loaded: LoadedModel, predictor: Predictor
) -> Setup:
    labels = loaded.labels
    if len(labels) == 1:
        raise EvaluationError(
            f"{loaded.name} has one output, which is yes or no by a threshold: top-1 accuracy is "
            "always 100 %."
        )
    geometry = cast("ClassificationGeometry", loaded.input.geometry)
    channels = loaded.input.channels
    prepare = partial(classification_input, geometry=geometry, channels=channels)
    counts = ClassificationCounts(len(labels))
    data = (
        DrawnScenes(len(labels), prepare)
        if arguments.data == "demo"
        else ImageFolder(Path(arguments.data), labels, prepare)
    )
    measurement = Classification(predictor, counts)
    return Setup(_place(arguments.data), data, measurement, counts, arguments.batch_size, {})


def _segmentation(
    arguments: argparse.Namespace, loaded: LoadedModel, predictor: Predictor
) -> Setup:
    labels = loaded.labels
    geometry = cast("ScaledGeometry", loaded.input.geometry)
    channels = loaded.input.channels
    prepare = partial(segmentation_input, geometry=geometry, channels=channels)
    counts = SegmentationCounts(len(labels))
    reduce_zero_label = not arguments.keep_zero_label
    data = (
        DrawnLabelMaps(len(labels), prepare)
        if arguments.data == "demo"
        else SegmentationFolder(
            Path(arguments.data),
            len(labels),
            reduce_zero_label=reduce_zero_label,
            prepare=prepare,
        )
    )
    settings = {} if arguments.data == "demo" else {"reduce_zero_label": reduce_zero_label}
    measurement = Segmentation(predictor, counts)
    return Setup(_place(arguments.data), data, measurement, counts, 1, settings)


def _detection(arguments: argparse.Namespace, loaded: LoadedModel, predictor: Predictor) -> Setup:
    geometry = cast("ScaledGeometry", loaded.input.geometry)
    channels = loaded.input.channels
    prepare = partial(detection_input, geometry=geometry, channels=channels)
    folder = Path(arguments.data or ".")
    path = arguments.annotations or folder / "annotations" / "instances_val2017.json"
    images = arguments.images or folder / "val2017"
    annotations = read_annotations(path)
    ids = category_ids(annotations, loaded.labels)
    data = CocoDataset(annotations, images, ids, prepare)
    results = DetectionResults(path.resolve(), arguments.max_detections)
    measurement = Detection(predictor, results, geometry.multiple, ids)
    settings = {"max_detections": arguments.max_detections}
    return Setup(_place(images), data, measurement, results, 1, settings)


def _place(data: str | Path) -> str:
    return data if data == "demo" else str(Path(data).resolve())


_SETUPS: dict[Task, Callable[[argparse.Namespace, LoadedModel, Predictor], Setup]] = {
    Task.CLASSIFY: _classification,
    Task.SEGMENT: _segmentation,
    Task.DETECT: _detection,
}
