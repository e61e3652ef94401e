from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.config import Task
from model.evaluation.average_precision import DetectionResults
from model.evaluation.images import EvaluationError
from model.evaluation.metrics import ClassificationCounts
from model.evaluation.report import (
    EvaluationReport,
    is_comparable,
    load,
    merge,
    published_metrics,
    save,
)

CLASSES = 6
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(30, CLASSES)).astype(np.float32)
CLASS_IDS = RNG.integers(CLASSES, size=30)


def classified(first: int, end: int) -> tuple[EvaluationReport, ClassificationCounts]:
    """The report of a classifier on a part of thirty images."""
    counts = ClassificationCounts(CLASSES)
    counts.add(LOGITS[first:end], CLASS_IDS[first:end])
    report = EvaluationReport(
        task=Task.CLASSIFY,
        model="overlock_t",
        weights="w.pth",
        digest="abc",
        weights_kind="ema",
        input={"input_size": 224, "mean": [0.5, 0.5, 0.5]},
        input_from={"input_size": "architecture", "mean": "option"},
        data="/data",
        data_items=30,
        classes=CLASSES,
        comparable=False,
        settings={"dtype": "float32"},
        device="CPU",
        offset=first,
        limit=end - first,
        ranges=[[first, end]],
        items=counts.items,
        metrics=counts.metrics(),
        published=None,
        counts=counts.as_json(),
        command="overlock evaluate ...",
        torch="2.13.0",
        seconds=1.5,
    )
    return report, counts


def saved(folder: Path, first: int, end: int) -> Path:
    path = folder / f"{first}-{end}.json"
    save(*classified(first, end), path)
    return path


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report, counts = classified(0, 30)
    assert load(saved(tmp_path, 0, 30)) == (report, counts)


def test_the_file_says_that_metrics_are_percent(tmp_path: Path) -> None:
    contents = json.loads(saved(tmp_path, 0, 30).read_text("utf-8"))
    assert contents["unit"] == "percent"
    assert contents["metrics"]["top1"] == 100 * contents["counts"]["right"] / 30


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    whole, whole_counts = classified(0, 30)
    paths = [saved(tmp_path, *part) for part in ((20, 30), (0, 7), (7, 20))]
    merged, counts = merge(paths, "overlock evaluate merge ...")
    assert counts == whole_counts
    assert merged == replace(whole, limit=None, seconds=4.5, command="overlock evaluate merge ...")


def test_a_gap_between_parts_shows(tmp_path: Path) -> None:
    merged, _ = merge([saved(tmp_path, 0, 5), saved(tmp_path, 10, 20)], "")
    assert merged.ranges == [[0, 5], [10, 20]]
    assert merged.items == 15


def test_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="overlap: both have image 9 "):
        merge([saved(tmp_path, 9, 20), saved(tmp_path, 0, 10)], "")


def test_reports_of_different_weights_are_refused(tmp_path: Path) -> None:
    report, counts = classified(10, 20)
    save(replace(report, digest="def"), counts, tmp_path / "other.json")
    with pytest.raises(EvaluationError, match="digest is abc in one and def in the other"):
        merge([saved(tmp_path, 0, 10), tmp_path / "other.json"], "")


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"gone\.json cannot be read"):
        load(tmp_path / "gone.json")


@pytest.mark.parametrize("contents", ["{", "[]", '{"task": "classify"}'])
def test_another_file_is_no_report(tmp_path: Path, contents: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(contents)
    with pytest.raises(EvaluationError, match=r"other\.json is no report"):
        load(path)


def test_detections_have_a_file_of_their_own(tmp_path: Path) -> None:
    results = DetectionResults(tmp_path / "instances.json", 100)
    results.add(4, [{"image_id": 4, "score": 0.5}])
    report = replace(classified(0, 1)[0], task=Task.DETECT, counts=results.as_json())
    save(report, results, tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json.detections.json").read_text("utf-8"))
    assert found == [{"image_id": 4, "score": 0.5}]
    assert load(tmp_path / "r.json") == (report, results)


def test_the_papers_numbers_are_those_of_the_tables() -> None:
    assert published_metrics(Task.CLASSIFY, "overlock_t", "w.pth", comparable=True) == {
        "paper": {"top1": 84.2}
    }
    assert published_metrics(Task.SEGMENT, "upernet_overlock_b", "w.pth", comparable=True) == {
        "paper": {"miou": 51.7}
    }
    assert published_metrics(Task.SEGMENT, "upernet_overlock_xt", "w.pth", comparable=True) is None


@pytest.mark.parametrize(
    ("weights", "columns"),
    [
        ("maskrcnn3x_overlock_tiny_coco.pth", {"paper 3x": {"box_ap": 49.6, "mask_ap": 43.9}}),
        (
            "mine.pth",
            {
                "paper 1x": {"box_ap": 48.3, "mask_ap": 43.3},
                "paper 3x": {"box_ap": 49.6, "mask_ap": 43.9},
            },
        ),
    ],
)
def test_the_weights_name_tells_the_length_of_training(
    weights: str, columns: dict[str, dict[str, float]]
) -> None:
    found = published_metrics(Task.DETECT, "mask_rcnn_overlock_t", weights, comparable=True)
    assert found == columns


def test_the_paper_has_no_mask_ap_of_a_cascade() -> None:
    found = published_metrics(Task.DETECT, "cascade_mask_rcnn_overlock_t", "w.pth", comparable=True)
    assert found == {"paper 3x": {"box_ap": 52.4}}


@pytest.mark.parametrize(
    ("weights", "data", "classes", "covers_all_classes", "published_input"),
    [
        ("random", "/data", 1000, True, True),
        ("demo", "/data", 1000, True, True),
        ("w.pth", "demo", 1000, True, True),
        ("w.pth", "/data", 10, True, True),
        ("w.pth", "/data", 1000, False, True),
        ("w.pth", "/data", 1000, True, False),
    ],
)
def test_what_the_paper_did_not_measure_is_not_compared_with_it(
    weights: str, data: str, classes: int, covers_all_classes: bool, published_input: bool
) -> None:
    assert not is_comparable(
        Task.CLASSIFY,
        weights,
        data,
        classes=classes,
        covers_all_classes=covers_all_classes,
        published_input=published_input,
    )
    assert published_metrics(Task.CLASSIFY, "overlock_t", weights, comparable=False) is None


def test_official_weights_on_the_papers_data_are_compared_with_it() -> None:
    assert is_comparable(
        Task.CLASSIFY,
        "w.pth",
        "/data",
        classes=1000,
        covers_all_classes=True,
        published_input=True,
    )
