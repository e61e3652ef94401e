from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.evaluation.coco import CocoDataset, category_ids, read_annotations
from model.evaluation.images import EvaluationError

ANNOTATION = {
    "id": 1,
    "image_id": 7,
    "category_id": 18,
    "bbox": [0, 0, 2, 2],
    "area": 4,
    "iscrowd": 0,
    "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]],
}
CONTENTS: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "seven.jpg", "width": 8, "height": 5},
        {"id": 3, "file_name": "three.jpg", "width": 6, "height": 4},
    ],
    "annotations": [ANNOTATION],
    "categories": [{"id": 18, "name": "dog"}, {"id": 5, "name": "cat"}],
}


def written(folder: Path, contents: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(contents), encoding="utf-8")
    return path


def dataset(folder: Path) -> CocoDataset:
    return CocoDataset(read_annotations(written(folder, CONTENTS)), folder, (18, 5), np.asarray)


def test_images_come_in_the_order_of_their_ids_with_their_size(tmp_path: Path) -> None:
    Image.new("L", (8, 5)).save(tmp_path / "seven.jpg")
    Image.new("RGB", (6, 4)).save(tmp_path / "three.jpg")
    data = dataset(tmp_path)
    items = [data.read(index) for index in range(len(data))]
    assert [(item.image_id, item.size) for item in items] == [(3, (4, 6)), (7, (5, 8))]
    assert items[1].pixels.shape == (5, 8, 3)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 6)).save(tmp_path / "three.jpg")
    with pytest.raises(
        EvaluationError, match=r"three\.jpg has 4x6 pixels, the annotations say 6x4"
    ):
        dataset(tmp_path).read(0)


def test_a_missing_image_folder_is_refused(tmp_path: Path) -> None:
    annotations = read_annotations(written(tmp_path, CONTENTS))
    with pytest.raises(EvaluationError, match=r"There is no folder .*gone"):
        CocoDataset(annotations, tmp_path / "gone", (18, 5), np.asarray)


def test_a_missing_annotation_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="There is no annotation file"):
        read_annotations(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([], "has no list of images"),
        ({**CONTENTS, "categories": []}, "has no list of categories"),
        (
            {**CONTENTS, "annotations": [{**ANNOTATION, "area": 4}, {"id": 2}]},
            "has annotations without 'image_id'",
        ),
    ],
)
def test_annotations_that_the_metric_cannot_use_are_refused(
    tmp_path: Path, contents: Any, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_annotations(written(tmp_path, contents))


def test_an_annotation_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text("{")
    with pytest.raises(EvaluationError, match="is no JSON"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("labels", "ids"),
    [
        (("dog", "cat"), (18, 5)),  # by name
        (("cat", "horse", "dog"), (5, None, 18)),  # by name, one not annotated
        (("class 0", "class 1"), (5, 18)),  # by the order of the ids
    ],
)
def test_classes_find_their_categories(
    tmp_path: Path, labels: tuple[str, ...], ids: tuple[int | None, ...]
) -> None:
    assert category_ids(read_annotations(written(tmp_path, CONTENTS)), labels) == ids


def test_classes_that_are_not_annotated_mean_that_not_all_are_covered(tmp_path: Path) -> None:
    annotations = read_annotations(written(tmp_path, CONTENTS))
    assert not CocoDataset(annotations, tmp_path, (5, None, 18), np.asarray).covers_all_classes
    assert CocoDataset(annotations, tmp_path, (5, 18), np.asarray).covers_all_classes


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    annotations = read_annotations(written(tmp_path, CONTENTS))
    with pytest.raises(EvaluationError, match="2 categories, the model has 3 classes"):
        category_ids(annotations, ("a", "b", "c"))
