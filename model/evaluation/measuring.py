"""Run a network over a data set: prefetching, forward passes, counts, progress."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from model.evaluation.average_precision import DetectionResults
from model.evaluation.coco import CocoImage
from model.evaluation.datasets import ClassifiedImage, SegmentedImage
from model.evaluation.images import EvaluationError
from model.evaluation.metrics import ClassificationCounts, SegmentationCounts
from model.evaluation.predictions import coco_results, label_map_of, logits_of
from model.images.prefetch import prefetch
from model.inference.predictor import Predictor

SECONDS_BETWEEN_LINES = 30.0
"""Interval of the progress lines where standard error is no terminal."""

Item = TypeVar("Item")
ItemOut = TypeVar("ItemOut", covariant=True)
ItemIn = TypeVar("ItemIn", contravariant=True)


class DataSet(Protocol[ItemOut]):
    """Items that are read one at a time, in a stable order, from any thread."""

    @property
    def covers_all_classes(self) -> bool:
        """Whether every class of the network may occur."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> ItemOut:
        """Read one item."""


class Measurement(Protocol[ItemIn]):
    """A network and its results so far."""

    def add(self, items: Sequence[ItemIn]) -> None:
        """Run the network on a batch and count."""

    def progress(self) -> str:
        """Return the result so far, for the progress bar."""


class Classification:
    """Measures a classifier."""

    def __init__(self, predictor: Predictor, counts: ClassificationCounts) -> None:
        self._predictor = predictor
        self._counts = counts

    def add(self, items: Sequence[ClassifiedImage]) -> None:
        """Run a batch and count."""
        logits = logits_of(self._predictor, [item.pixels for item in items])
        self._counts.add(logits, np.array([item.class_id for item in items]))

    def progress(self) -> str:
        """Return the top-1 accuracy so far."""
        return f"top-1 {self._counts.metrics()['top1']:.2f}"


class Segmentation:
    """Measures a segmenter."""

    def __init__(self, predictor: Predictor, counts: SegmentationCounts) -> None:
        self._predictor = predictor
        self._counts = counts

    def add(self, items: Sequence[SegmentedImage]) -> None:
        """Run one image after the other, since their shapes differ, and count."""
        for item in items:
            height, width = item.label_map.shape
            found = label_map_of(self._predictor, item.pixels, (height, width))
            self._counts.add(found, item.label_map)

    def progress(self) -> str:
        """Return the mIoU so far."""
        miou = self._counts.metrics()["miou"]
        return "mIoU -" if miou is None else f"mIoU {miou:.2f}"


class Detection:
    """Measures a detector.

    Args:
        predictor: runs it.
        results: collects its detections.
        multiple: the input's sides are padded to multiples of this, pixels.
        category_ids: category ids of the network's classes.
    """

    def __init__(
        self,
        predictor: Predictor,
        results: DetectionResults,
        multiple: int,
        category_ids: Sequence[int | None],
    ) -> None:
        self._predictor = predictor
        self._results = results
        self._multiple = multiple
        self._category_ids = category_ids

    def add(self, items: Sequence[CocoImage]) -> None:
        """Run one image after the other, since their shapes differ, and collect."""
        for item in items:
            found = coco_results(self._predictor, item, self._multiple, self._category_ids)
            self._results.add(item.image_id, found)

    def progress(self) -> str:
        """Return the number of detections; the metric needs all of them."""
        return f"{len(self._results.results)} detections"


def span(items: int, offset: int, limit: int | None) -> range:
    """Return the indexes of the items to measure.

    Raises:
        EvaluationError: if there are none.
    """
    if offset >= items:
        raise EvaluationError(f"Offset {offset} is past the last of {items} items.")
    return range(offset, items if limit is None else min(items, offset + limit))


def measure(
    measurement: Measurement[Item], data: DataSet[Item], indexes: range, batch_size: int
) -> bool:
    """Measure a part of a data set.

    Returns:
        Whether it was finished; Ctrl-C ends it after the current batch.
    """
    interval = 0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    items = prefetch(data.read, indexes, ahead=2 * batch_size)
    with (
        _interrupts() as interrupted,
        closing(items),
        tqdm(total=len(indexes), unit=" images", mininterval=interval) as bar,
    ):
        for batch in _batches(items, batch_size):
            measurement.add(batch)
            bar.set_postfix_str(measurement.progress(), refresh=False)
            bar.update(len(batch))
            if interrupted.is_set():
                return False
    return True


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Record the first Ctrl-C, so that a batch can be finished; the second interrupts at once."""
    interrupted = threading.Event()

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
