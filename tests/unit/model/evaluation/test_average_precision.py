"""Average precision of cases that can be counted by hand.

COCO reads the precision at the 101 recalls 0.00, 0.01, ... 1.00 and averages it over the ten IoU
thresholds 0.50, 0.55, ... 0.95.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from model.evaluation.average_precision import DetectionResults, average_precision, coco_result
from model.evaluation.coco import read_annotations
from model.evaluation.images import EvaluationError

SIDE = 200
LARGE, MEDIUM, SMALL = (0, 0, 100, 100), (110, 0, 150, 50), (110, 110, 130, 130)
Box = tuple[int, int, int, int]
Truth = Callable[..., Path]


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    """Write annotations of boxes (image id, category id, box), each filled by its mask."""

    def written(*boxes: tuple[int, int, Box], with_masks: bool = True) -> Path:
        annotations = []
        for number, (image_id, category_id, (x1, y1, x2, y2)) in enumerate(boxes, start=1):
            annotation: dict[str, Any] = {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            if with_masks:
                annotation["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            annotations.append(annotation)
        contents = {
            "images": [
                {"id": number, "file_name": f"{number}.jpg", "width": SIDE, "height": SIDE}
                for number in sorted({image_id for image_id, _, _ in boxes})
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": annotations,
        }
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(contents), encoding="utf-8")
        return path

    return written


def detection(
    image_id: int, category_id: int, box: Box, score: float = 0.9, mask_box: Box | None = None
) -> dict[str, Any]:
    """A detection whose mask fills its box, or another one."""
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    x1, y1, x2, y2 = mask_box or box
    mask[y1:y2, x1:x2] = 1
    counts = rle.encode(mask)["counts"]
    assert isinstance(counts, bytes)
    encoded = {"size": [SIDE, SIDE], "counts": counts.decode("ascii")}
    return coco_result(image_id, category_id, score, box, encoded)


def test_a_result_has_cocos_box(truth: Truth) -> None:
    assert detection(1, 2, MEDIUM)["bbox"] == [110, 0, 40, 50]


def test_perfect_detections_have_average_precision_100(truth: Truth) -> None:
    boxes = [(1, 1, LARGE), (1, 2, MEDIUM), (2, 1, SMALL)]
    annotations = read_annotations(truth(*boxes))
    found = [detection(*box) for box in boxes]
    metrics = average_precision(annotations, found, [1, 2], 100)
    names = {f"{of}_ap{s}" for of in ("box", "mask") for s in ("", "50", "75")}
    names |= {f"{of}_ap_{s}" for of in ("box", "mask") for s in ("small", "medium", "large")}
    assert metrics == {name: pytest.approx(100) for name in names}


def test_one_of_two_found_has_precision_1_up_to_recall_one_half(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE), (1, 1, MEDIUM)))
    metrics = average_precision(annotations, [detection(1, 1, LARGE)], [1], 100)
    assert metrics["box_ap"] == pytest.approx(100 * 51 / 101)
    assert metrics["box_ap_large"] == pytest.approx(100)
    assert metrics["box_ap_medium"] == 0
    assert metrics["box_ap_small"] is None


def test_a_better_scored_false_alarm_halves_the_precision(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE)))
    found = [detection(1, 1, (150, 150, 200, 200), 0.95), detection(1, 1, LARGE, 0.9)]
    assert average_precision(annotations, found, [1], 100)["box_ap"] == pytest.approx(50)


def test_an_overlap_of_072_counts_at_five_of_ten_thresholds(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE)))
    metrics = average_precision(annotations, [detection(1, 1, (0, 0, 72, 100))], [1], 100)
    assert [metrics[name] for name in ("box_ap", "box_ap50", "box_ap75")] == [
        pytest.approx(50),
        pytest.approx(100),
        0.0,
    ]


def test_masks_are_measured_by_their_own_overlap(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE)))
    found = [detection(1, 1, LARGE, mask_box=(0, 0, 100, 62))]  # IoU 0.62: 0.50, 0.55, 0.60
    metrics = average_precision(annotations, found, [1], 100)
    assert metrics["box_ap"] == pytest.approx(100)
    assert metrics["mask_ap"] == pytest.approx(30)


def test_an_unmatched_masks_size_is_its_own_area_and_not_its_boxs(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, SMALL)))
    # A false alarm, with a box of 100x100 and a mask of 20x20, better scored than the right one.
    found = [
        detection(1, 1, LARGE, 0.95, mask_box=(0, 0, 20, 20)),
        detection(1, 1, SMALL, 0.9),
    ]
    metrics = average_precision(annotations, found, [1], 100)
    assert metrics["box_ap_small"] == pytest.approx(100)  # it is large and does not count
    assert metrics["mask_ap_small"] == pytest.approx(50)  # it is small and does


def test_images_that_were_not_looked_at_are_left_out(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE), (2, 1, LARGE)))
    found = [detection(1, 1, LARGE)]
    assert average_precision(annotations, found, [1], 100)["box_ap"] == pytest.approx(100)
    assert average_precision(annotations, found, [1, 2], 100)["box_ap"] == pytest.approx(
        100 * 51 / 101
    )


def test_no_detection_at_all_has_average_precision_0(truth: Truth) -> None:
    metrics = average_precision(read_annotations(truth((1, 1, LARGE))), [], [1], 100)
    assert (metrics["box_ap"], metrics["mask_ap"]) == (0.0, 0.0)


def test_annotations_without_masks_have_no_mask_ap(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE), with_masks=False))
    metrics = average_precision(annotations, [detection(1, 1, LARGE)], [1], 100)
    assert metrics["box_ap"] == pytest.approx(100)
    assert not any(name.startswith("mask") for name in metrics)


def test_measuring_twice_gives_the_same(truth: Truth) -> None:
    annotations = read_annotations(truth((1, 1, LARGE), (1, 2, MEDIUM)))
    found = [detection(1, 1, (0, 0, 90, 100)), detection(1, 2, (110, 0, 145, 50))]
    first = average_precision(annotations, found, [1], 100)
    assert average_precision(annotations, found, [1], 100) == first


def test_only_the_best_detections_of_an_image_count(truth: Truth) -> None:
    results = DetectionResults(truth((1, 1, LARGE), (1, 2, MEDIUM)), max_detections=1)
    results.add(1, [detection(1, 1, LARGE), detection(1, 2, MEDIUM, 0.8)])
    assert results.metrics()["box_ap"] == pytest.approx(50)  # the mean of the two categories


def test_restored_results_merge_to_the_whole(truth: Truth, tmp_path: Path) -> None:
    path = truth((1, 1, LARGE), (2, 1, MEDIUM), (3, 2, SMALL))
    found = {
        1: [detection(1, 1, LARGE), detection(1, 2, SMALL, 0.5)],
        2: [detection(2, 1, (110, 0, 150, 40))],
        3: [],
    }
    whole, first, second = (DetectionResults(path, 100) for _ in range(3))
    for image_id, part in ((1, first), (2, second), (3, second)):
        part.add(image_id, found[image_id])
        whole.add(image_id, found[image_id])
    restored = []
    for number, part in enumerate((first, second)):
        file = tmp_path / f"{number}.json"
        part.save_results(file)
        restored.append(DetectionResults.load(part.as_json(), file))
    restored[0].merge(restored[1])
    assert restored[0] == whole
    assert restored[0].metrics() == whole.metrics()


def test_lost_detections_are_named(truth: Truth, tmp_path: Path) -> None:
    counts = DetectionResults(truth((1, 1, LARGE)), 100).as_json()
    with pytest.raises(EvaluationError, match=r"gone\.json cannot be read"):
        DetectionResults.load(counts, tmp_path / "gone.json")
