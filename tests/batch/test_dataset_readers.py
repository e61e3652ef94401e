"""The data sets of ``--format`` in other programs' hands, each in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.commands.console.exits import DONE
from support.batch_networks import BrightnessNetwork, RaggedDetectingNetwork
from support.batch_runs import Batch, rows_of, write_scenes
from support.client_environments import client_environment, run_client
from support.masks import mask_of

READERS = Path(__file__).with_name("dataset_readers")
MODEL = ("--model", "mask_rcnn_overlock_xt", "--weights", "random")
DETECT = ("detect", "photos", "--output", "found", *MODEL)
SEGMENT = ("segment", "photos", "--output", "found")

pytestmark = pytest.mark.timeout(300)  # the first test makes an environment

Masks = Mapping[str, NDArray[Any]]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 4, [(64, 80), (97, 67)])


def by_supervision(kind: str, *places: Path | str) -> tuple[dict[str, Any], Masks]:
    environment = client_environment(READERS / "supervision.txt")
    script = READERS / "read_supervision.py"
    found = run_client(environment, script, kind, *map(str, places), "masks.npz")
    return found, np.load("masks.npz")


def of_yolo(folder: Path) -> tuple[dict[str, Any], Masks]:
    yolo = folder / "found" / "yolo"
    (yolo / "images").symlink_to(folder / "photos")
    return by_supervision("yolo", yolo / "images", yolo / "labels", yolo / "data.yaml")


def of_label_studio() -> tuple[list[Any], Masks]:
    environment = client_environment(READERS / "label_studio.txt")
    places = "found/label-studio.json", "found/label-studio.xml", "masks.npz"
    found = run_client(environment, READERS / "read_label_studio.py", *places)
    assert found["errors"] == []
    return json.loads(Path(places[0]).read_text()), np.load("masks.npz")


def detected(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in rows_of(folder / "found"):
        yield Path(row["path"]).stem, row


def boxes_of(row: dict[str, Any]) -> Any:
    return [each["box"] for each in row["detections"]]


def classes_of(row: dict[str, Any]) -> list[int]:
    return [each["class_id"] for each in row["detections"]]


def labels_of(folder: Path) -> list[str]:
    model = json.loads((folder / "found" / "manifest.json").read_text())["model"]
    labels: list[str] = model["labels"]
    return labels


def test_supervision_reads_the_boxes_of_yolo(batch: Batch, tmp_path: Path) -> None:
    words = (*DETECT, "--no-masks", "--format", "yolo")
    assert batch(*words, network=RaggedDetectingNetwork) == DONE
    found, masks = of_yolo(tmp_path)
    assert found["classes"] == labels_of(tmp_path)
    assert list(masks) == []
    for stem, row in detected(tmp_path):
        assert found["images"][stem]["class_ids"] == classes_of(row)
        # Six digits of a share of at most 97 pixels.
        np.testing.assert_allclose(found["images"][stem]["boxes"], boxes_of(row), atol=2e-4)


def test_supervision_reads_the_masks_of_yolo_but_for_lines_between_their_parts(
    batch: Batch, tmp_path: Path
) -> None:
    assert batch(*DETECT, "--format", "yolo", network=RaggedDetectingNetwork) == DONE
    found, masks = of_yolo(tmp_path)
    for stem, row in detected(tmp_path):
        assert found["images"][stem]["class_ids"] == classes_of(row)
        assert len(masks[stem]) == len(row["detections"]) == 4
        *ragged, empty = zip(masks[stem], row["detections"], strict=True)
        for mask, detection in ragged:
            expected = mask_of(detection["mask"]).astype(bool)
            assert not (expected & ~mask).any()
            # Bridges are a pixel wide; these masks have a dozen parts and holes.
            assert (mask & ~expected).sum() < 0.1 * expected.sum()
        # A mask without a pixel is its box.
        left, top, right, bottom = np.round(empty[1]["box"]).astype(int)
        assert empty[0][top + 1 : bottom - 1, left + 1 : right - 1].all()


def test_supervision_reads_a_segmentation_of_yolo_to_the_pixel(
    batch: Batch, tmp_path: Path
) -> None:
    assert batch(*SEGMENT, "--format", "yolo", network=BrightnessNetwork) == DONE
    found, masks = of_yolo(tmp_path)
    for stem, row in detected(tmp_path):
        class_ids = np.array(found["images"][stem]["class_ids"])
        label_map = label_map_of(row)
        assert set(class_ids) == set(np.unique(label_map))
        for class_id in set(class_ids.tolist()):
            union = masks[stem][class_ids == class_id].any(axis=0)
            np.testing.assert_array_equal(union, label_map == class_id)


def test_supervision_reads_coco(batch: Batch, tmp_path: Path) -> None:
    assert batch(*DETECT, "--format", "coco", network=RaggedDetectingNetwork) == DONE
    found, masks = by_supervision("coco", ".", "found/coco.json", "-")
    assert found["classes"] == labels_of(tmp_path)
    for stem, row in detected(tmp_path):
        assert found["images"][stem]["class_ids"] == classes_of(row)
        np.testing.assert_allclose(found["images"][stem]["boxes"], boxes_of(row), atol=1e-3)
        for mask, detection in zip(masks[stem], row["detections"], strict=True):
            np.testing.assert_array_equal(mask, mask_of(detection["mask"]))


def test_label_studio_accepts_boxes(batch: Batch, tmp_path: Path) -> None:
    words = (*DETECT, "--no-masks", "--format", "label-studio")
    assert batch(*words, network=RaggedDetectingNetwork) == DONE
    tasks, _ = of_label_studio()
    for task, (_, row) in zip(tasks, detected(tmp_path), strict=True):
        regions = task["predictions"][0]["result"]
        for region, detection in zip(regions, row["detections"], strict=True):
            value = region["value"]
            assert value["rectanglelabels"] == [detection["label"]]
            x, y = value["x"], value["y"]
            percent = np.array([x, y, x + value["width"], y + value["height"]])
            sides = [row["width"], row["height"]] * 2
            # Four digits of percent of at most 97 pixels.
            np.testing.assert_allclose(percent * sides / 100, detection["box"], atol=2e-4)
            assert region["score"] == pytest.approx(detection["score"], abs=1e-6)


def test_label_studio_accepts_outlines(batch: Batch, tmp_path: Path) -> None:
    words = (*DETECT, "--format", "label-studio")
    assert batch(*words, network=RaggedDetectingNetwork) == DONE
    tasks, _ = of_label_studio()
    for task, (_, row) in zip(tasks, detected(tmp_path), strict=True):
        regions = task["predictions"][0]["result"]
        labels = [region["value"]["polygonlabels"] for region in regions]
        assert labels == [[each["label"]] for each in row["detections"]]


def test_label_studio_paints_a_segmentation_to_the_pixel(batch: Batch, tmp_path: Path) -> None:
    assert batch(*SEGMENT, "--format", "label-studio", network=BrightnessNetwork) == DONE
    tasks, masks = of_label_studio()
    assert len(tasks) == 4
    for place, (_, row) in enumerate(detected(tmp_path)):
        label_map = label_map_of(row)
        for present in row["classes"]:
            pixels = masks[f"{place} {present['label']}"]
            expected = 255 * (label_map == present["class_id"])
            np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 4, axis=2))


def label_map_of(row: dict[str, Any]) -> NDArray[np.uint8]:
    Path("label_map.png").write_bytes(row["label_map"])
    return np.asarray(Image.open("label_map.png"))
