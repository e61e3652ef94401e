"""Report of an evaluation as a JSON file; the reports of several parts can be merged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from model.checkpoints.find_weights import WeightsKind
from model.config import CLASSIFIERS, DEFAULT_NUM_CLASSES, DETECTORS, SEGMENTERS, Task
from model.evaluation.average_precision import DetectionResults
from model.evaluation.images import EvaluationError
from model.evaluation.metrics import ClassificationCounts, Metrics, SegmentationCounts

Counts = ClassificationCounts | SegmentationCounts | DetectionResults

SAME_IN_ALL = (
    "task",
    "model",
    "digest",
    "weights_kind",
    "input",
    "input_from",
    "data_items",
    "classes",
    "comparable",
    "settings",
)
"""Fields in which merged reports have to agree."""


@dataclass(frozen=True)
class EvaluationReport:
    """Result of one run, or of several merged ones.

    Attributes:
        task: the task that was measured.
        model: the network's name.
        weights: the file's name, or "demo" or "random".
        digest: SHA-256 of the weights file, hexadecimal; None for random weights.
        weights_kind: "ema" for averaged weights, else "raw".
        input: the values of what was done to an image, by their names.
        input_from: who stated each value: "option", "checkpoint" or "architecture".
        data: folder of the data, or "demo".
        data_items: images of the whole data set.
        classes: of the network.
        comparable: whether the paper's number applies to these weights, classes, data and input.
        settings: other options that affect the result.
        device: where the network ran.
        offset: index of the first image.
        limit: most images to measure; None for no limit.
        ranges: indexes of the images that were measured, each [first, one past the last].
        items: images measured.
        metrics: in percent.
        published: the paper's metrics by column title, in percent; None if it has none.
        counts: counts from which the metrics are computed.
        command: the command line.
        torch: version of torch.
        seconds: duration of the measurement.
    """

    task: Task
    model: str
    weights: str
    digest: str | None
    weights_kind: WeightsKind
    input: dict[str, Any]
    input_from: dict[str, str]
    data: str
    data_items: int
    classes: int
    comparable: bool
    settings: dict[str, Any]
    device: str
    offset: int
    limit: int | None
    ranges: list[list[int]]
    items: int
    metrics: Metrics
    published: dict[str, dict[str, float]] | None
    counts: dict[str, Any]
    command: str
    torch: str
    seconds: float


def published_metrics(
    task: Task, name: str, weights: str, *, comparable: bool
) -> dict[str, dict[str, float]] | None:
    """Return the paper's metrics of a network by column title, in percent.

    A detector has one set for each length of training; the name of the authors' weights file says
    which one (``maskrcnn3x_...``).
    """
    if not comparable:
        return None
    found: dict[str, dict[str, float]] = {}
    if task is Task.CLASSIFY and (top1 := CLASSIFIERS[name].published_top1) is not None:
        found = {"paper": {"top1": top1}}
    if task is Task.SEGMENT and (miou := SEGMENTERS[name].published_miou) is not None:
        found = {"paper": {"miou": miou}}
    if task is Task.DETECT:
        for numbers in DETECTORS[name].published:
            metrics = {"box_ap": numbers.box_ap}
            if numbers.mask_ap is not None:
                metrics["mask_ap"] = numbers.mask_ap
            found[f"paper {numbers.schedule}"] = metrics
        named = {title: row for title, row in found.items() if title.split()[1] in weights}
        found = named or found
    return found or None


def is_comparable(
    task: Task,
    weights: str,
    data: str,
    *,
    classes: int,
    covers_all_classes: bool,
    published_input: bool,
) -> bool:
    """Return whether the paper's number, if there is one, applies to this measurement."""
    return (
        weights not in {"demo", "random"}
        and data != "demo"
        and classes == DEFAULT_NUM_CLASSES[task]
        and covers_all_classes
        and published_input
    )


def save(report: EvaluationReport, counts: Counts, path: Path) -> None:
    """Write a report, and a detector's detections beside it."""
    if isinstance(counts, DetectionResults):
        counts.save_results(_detections_path(path))
    contents = {"unit": "percent", **asdict(report)}
    path.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[EvaluationReport, Counts]:
    """Read what ``save`` wrote.

    Raises:
        EvaluationError: if it cannot be read, or is no report.
    """
    try:
        contents = json.loads(path.read_bytes())
        values = {field.name: contents[field.name] for field in fields(EvaluationReport)}
        report = EvaluationReport(**{**values, "task": Task(values["task"])})
        return report, _counts(report, path)
    except OSError as error:
        raise EvaluationError(f"The report {path} cannot be read: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"{path} is no report of an evaluation.") from error


def merge(paths: Sequence[Path], command: str) -> tuple[EvaluationReport, Counts]:
    """Merge reports of different parts of the same data.

    Raises:
        EvaluationError: if one cannot be read, or they do not belong together, or overlap.
    """
    (first, total), *others = [load(path) for path in paths]
    reports = [first, *(report for report, _ in others)]
    for path, (report, counts) in zip(paths[1:], others, strict=True):
        for name in SAME_IN_ALL:
            if getattr(report, name) != getattr(first, name):
                raise EvaluationError(
                    f"{paths[0]} and {path} do not add up: {name} is {getattr(first, name)} in one "
                    f"and {getattr(report, name)} in the other."
                )
        total.merge(counts)  # type: ignore[arg-type]  # of one kind, since the task is the same
    ranges = sorted(part for report in reports for part in report.ranges)
    for before, after in pairwise(ranges):
        if after[0] < before[1]:
            raise EvaluationError(
                f"The reports overlap: both have image {after[0]} of the data set."
            )
    merged = EvaluationReport(
        **{name: getattr(first, name) for name in SAME_IN_ALL},
        weights=first.weights,
        data=first.data,
        device=", ".join(sorted({report.device for report in reports})),
        offset=ranges[0][0],
        limit=None,
        ranges=_joined(ranges),
        items=total.items,
        metrics=total.metrics(),
        published=first.published,
        counts=total.as_json(),
        command=command,
        torch=", ".join(sorted({report.torch for report in reports})),
        seconds=sum(report.seconds for report in reports),
    )
    return merged, total


def _counts(report: EvaluationReport, path: Path) -> Counts:
    if report.task is Task.DETECT:
        return DetectionResults.load(report.counts, _detections_path(path))
    if report.task is Task.SEGMENT:
        return SegmentationCounts.from_json(report.classes, report.counts)
    return ClassificationCounts.from_json(report.classes, report.counts)


def _detections_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.detections.json")


def _joined(ranges: Sequence[list[int]]) -> list[list[int]]:
    """Join sorted ranges that touch."""
    joined: list[list[int]] = []
    for first, end in ranges:
        if joined and joined[-1][1] == first:
            joined[-1][1] = end
        else:
            joined.append([first, end])
    return joined
