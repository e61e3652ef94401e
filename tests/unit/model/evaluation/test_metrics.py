from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from model.evaluation.metrics import ClassificationCounts, SegmentationCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray


def logits_ranking(*rankings: list[int]) -> NDArray[np.float32]:
    """Logits (B, classes) in which each row's classes come in the given order, best first."""
    ranks = [[-ranking.index(c) for c in range(len(ranking))] for ranking in rankings]
    return np.array(ranks, np.float32)


def test_top1_and_top5_count_the_rank_of_the_right_class() -> None:
    counts = ClassificationCounts(num_classes=7)
    counts.add(
        logits_ranking(
            [2, 0, 1, 3, 4, 5, 6],  # first
            [0, 1, 3, 4, 2, 5, 6],  # fifth
            [0, 1, 3, 4, 5, 2, 6],  # sixth
            [0, 1, 3, 4, 5, 6, 2],  # last
        ),
        np.array([2, 2, 2, 2]),
    )
    assert counts.metrics() == {"top1": 25.0, "top5": 50.0}


def test_top5_of_less_than_five_classes_is_not_reported() -> None:
    counts = ClassificationCounts(num_classes=4)
    counts.add(logits_ranking([3, 1, 2, 0]), np.array([3]))
    assert counts.metrics() == {"top1": 100.0}


def test_batches_of_any_size_come_to_the_same_accuracy() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 9)).astype(np.float32)
    class_ids = rng.integers(9, size=20)
    together, apart = ClassificationCounts(9), ClassificationCounts(9)
    together.add(logits, class_ids)
    for start in (0, 7, 14):
        apart.add(logits[start : start + 7], class_ids[start : start + 7])
    assert apart == together


def test_restored_classification_counts_merge_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(12, 6)).astype(np.float32)
    class_ids = rng.integers(6, size=12)
    whole, first, second = (ClassificationCounts(6) for _ in range(3))
    whole.add(logits, class_ids)
    first.add(logits[:5], class_ids[:5])
    second.add(logits[5:], class_ids[5:])
    merged = ClassificationCounts.from_json(6, first.as_json())
    merged.merge(ClassificationCounts.from_json(6, second.as_json()))
    assert merged == whole


def test_miou_of_a_case_counted_by_hand() -> None:
    counts = SegmentationCounts(num_classes=3)
    label = np.array([[0, 0, 0, 1], [0, 1, 1, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    counts.add(predicted, label)
    # Class 0: 3 found, 4 there, 4 taken for it: 3 / 5. Class 1: 2 found, 3 there, 3 taken: 2 / 4.
    # Class 2 is nowhere and does not count.
    assert counts.metrics() == pytest.approx(
        {
            "miou": 100 * (3 / 5 + 2 / 4) / 2,
            "pixel_accuracy": 100 * 5 / 7,
            "mean_accuracy": 100 * (3 / 4 + 2 / 3) / 2,
        }
    )


def test_a_class_that_is_only_predicted_lowers_miou_and_not_mean_accuracy() -> None:
    counts = SegmentationCounts(num_classes=3)
    counts.add(np.array([[0, 2]], np.uint8), np.array([[0, 0]], np.uint8))
    metrics = counts.metrics()
    assert metrics["miou"] == pytest.approx(100 * (1 / 2 + 0) / 2)
    assert metrics["mean_accuracy"] == pytest.approx(50.0)


def test_nothing_but_ignored_pixels_has_no_miou() -> None:
    counts = SegmentationCounts(num_classes=2)
    counts.add(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert counts.items == 1
    assert counts.metrics() == {"miou": None, "pixel_accuracy": None, "mean_accuracy": None}


def miou_by_sets_of_pixels(
    images: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> float:
    """Compute mIoU over several (predicted, label) images, one pixel at a time."""
    truth: dict[int, set[tuple[int, int, int]]] = {}
    found: dict[int, set[tuple[int, int, int]]] = {}
    for number, (predicted, label) in enumerate(images):
        for row, column in np.ndindex(label.shape):
            if label[row, column] == 255:
                continue
            pixel = (number, row, column)
            truth.setdefault(int(label[row, column]), set()).add(pixel)
            found.setdefault(int(predicted[row, column]), set()).add(pixel)
    ious = [
        len(truth.get(c, set()) & found.get(c, set()))
        / len(truth.get(c, set()) | found.get(c, set()))
        for c in truth.keys() | found.keys()
    ]
    return 100 * sum(ious) / len(ious)


def test_miou_is_that_of_sets_of_pixels() -> None:
    rng = np.random.default_rng(2)
    counts = SegmentationCounts(num_classes=12)
    images = []
    for height, width in ((9, 13), (20, 7), (1, 5)):
        label = rng.choice([0, 1, 2, 5, 9, 255], size=(height, width)).astype(np.uint8)
        predicted = np.where(
            rng.random(label.shape) < 0.6, label % 12, rng.integers(10, size=label.shape)
        ).astype(np.uint8)
        images.append((predicted, label))
        counts.add(predicted, label)
    assert counts.metrics()["miou"] == pytest.approx(miou_by_sets_of_pixels(images))


def test_restored_segmentation_counts_merge_to_the_whole() -> None:
    rng = np.random.default_rng(3)
    whole, first, second = (SegmentationCounts(5) for _ in range(3))
    for part in (first, first, second):
        label, predicted = rng.integers(5, size=(2, 6, 6)).astype(np.uint8)
        whole.add(predicted, label)
        part.add(predicted, label)
    merged = SegmentationCounts.from_json(5, first.as_json())
    merged.merge(SegmentationCounts.from_json(5, second.as_json()))
    assert merged.as_json() == whole.as_json()
    assert merged.metrics() == whole.metrics()


def test_the_union_is_written_beside_what_it_comes_from() -> None:
    counts = SegmentationCounts(num_classes=2)
    counts.add(np.array([[0, 0, 1]], np.uint8), np.array([[0, 1, 1]], np.uint8))
    assert counts.as_json() == {
        "total": 1,
        "intersect": [1, 1],
        "union": [2, 2],
        "label": [1, 2],
        "predicted": [2, 1],
    }
