"""Set up an evaluation: the data set, the measurement and its counts.

A detector is measured on COCO's annotations alone: the drawn scenes have no boxes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from model.evaluation.average_precision import DetectionResults
from model.evaluation.coco import CocoDataset, category_ids, read_annotations
from model.evaluation.datasets import ImageFolder, SegmentationFolder
from model.evaluation.drawn import DrawnLabelMaps, DrawnScenes
from model.evaluation.measuring import Classification, DataSet, Detection, Measurement, Segmentation
from model.evaluation.metrics import ClassificationCounts, SegmentationCounts
from model.evaluation.report import Counts
from model.images.preprocess import classification_input, detection_input, segmentation_input
from model.inference.predictor import Predictor

Labels = tuple[str, ...]


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


def set_up(arguments: argparse.Namespace, labels: Labels, predictor: Predictor) -> Setup:
    """Set up the evaluation that the arguments name.

    Args:
        arguments: of ``service.commands.evaluate.arguments``.
        labels: the network's class names, in the order of the class ids.
        predictor: runs the network.

    Raises:
        EvaluationError: if the data are missing, or do not fit the network.
    """
    return _SETUPS[Task(arguments.task)](arguments, labels, predictor)


def _classification(arguments: argparse.Namespace, labels: Labels, predictor: Predictor) -> Setup:
    geometry = CLASSIFIERS[arguments.model].geometry
    counts = ClassificationCounts(len(labels))
    data = (
        DrawnScenes(len(labels), lambda image: classification_input(image, geometry))
        if arguments.data == "demo"
        else ImageFolder(
            Path(arguments.data), labels, lambda image: classification_input(image, geometry)
        )
    )
    measurement = Classification(predictor, counts)
    return Setup(_place(arguments.data), data, measurement, counts, arguments.batch_size, {})


def _segmentation(arguments: argparse.Namespace, labels: Labels, predictor: Predictor) -> Setup:
    geometry = SEGMENTERS[arguments.model].geometry
    counts = SegmentationCounts(len(labels))
    reduce_zero_label = not arguments.keep_zero_label
    data = (
        DrawnLabelMaps(len(labels), lambda image: segmentation_input(image, geometry))
        if arguments.data == "demo"
        else SegmentationFolder(
            Path(arguments.data),
            len(labels),
            reduce_zero_label=reduce_zero_label,
            prepare=lambda image: segmentation_input(image, geometry),
        )
    )
    settings = {} if arguments.data == "demo" else {"reduce_zero_label": reduce_zero_label}
    measurement = Segmentation(predictor, counts)
    return Setup(_place(arguments.data), data, measurement, counts, 1, settings)


def _detection(arguments: argparse.Namespace, labels: Labels, predictor: Predictor) -> Setup:
    geometry = DETECTORS[arguments.model].geometry
    folder = Path(arguments.data or ".")
    path = arguments.annotations or folder / "annotations" / "instances_val2017.json"
    images = arguments.images or folder / "val2017"
    annotations = read_annotations(path)
    ids = category_ids(annotations, labels)
    data = CocoDataset(annotations, images, ids, lambda image: detection_input(image, geometry))
    results = DetectionResults(path.resolve(), arguments.max_detections)
    measurement = Detection(predictor, results, geometry.multiple, ids)
    settings = {"max_detections": arguments.max_detections}
    return Setup(_place(images), data, measurement, results, 1, settings)


def _place(data: str | Path) -> str:
    return data if data == "demo" else str(Path(data).resolve())


_SETUPS: dict[Task, Callable[[argparse.Namespace, Labels, Predictor], Setup]] = {
    Task.CLASSIFY: _classification,
    Task.SEGMENT: _segmentation,
    Task.DETECT: _detection,
}
