"""``--format``: what the data sets hold, when they are made, and what of them is refused."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from service.commands.batch import part_file
from service.commands.batch import run as batch_run
from service.commands.batch.datasets import dataset as datasets
from service.commands.batch.datasets import yolo
from service.commands.batch.datasets.images import FoundImages
from service.commands.console.exits import DONE, FAILED, REFUSED, RefusedError
from support.batch_networks import BrightnessNetwork, RaggedDetectingNetwork
from support.batch_runs import Batch, files_in, rows_of, write_scenes
from support.masks import mask_of

MODEL = ("--model", "mask_rcnn_overlock_xt", "--weights", "random")
DETECT = ("detect", "photos", "--output", "found", "--part-size", "3", *MODEL)
SEGMENT = ("segment", "photos", "--output", "found", "--part-size", "3")
FORMATS = {"coco": "coco.json", "yolo": "yolo", "label-studio": "label-studio.json"}

Run = Callable[..., int]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images of two shapes, one of them below another folder, and a damaged one."""
    write_scenes(tmp_path / "photos", 6, [(64, 80), (96, 64)])
    (tmp_path / "photos" / "in").mkdir()
    (tmp_path / "photos" / "004.png").rename(tmp_path / "photos" / "in" / "000.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    return tmp_path / "photos"


@pytest.fixture
def detect(batch: Batch, photos: Path) -> Run:
    return lambda *words: batch(*DETECT, *words, network=RaggedDetectingNetwork)


@pytest.fixture
def segment(batch: Batch, photos: Path) -> Run:
    return lambda *words: batch(*SEGMENT, *words, network=BrightnessNetwork)


def loaded(path: Path, capsys: pytest.CaptureFixture[str]) -> COCO:
    coco = COCO(str(path))
    capsys.readouterr()
    return coco


def found_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(folder) if row["error"] is None]


def test_coco_has_the_detections_of_the_rows(
    detect: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("--format", "coco") == FAILED
    assert "results in found, coco.json beside them." in capsys.readouterr().err
    coco, rows = loaded(tmp_path / "found" / "coco.json", capsys), found_rows(tmp_path / "found")
    assert [image["file_name"] for image in coco.imgs.values()] == [row["path"] for row in rows]
    assert list(coco.imgs) == [1, 2, 3, 4, 5, 7]  # the sixth is damaged
    for (image_id, image), row in zip(coco.imgs.items(), rows, strict=True):
        assert (image["width"], image["height"]) == (row["width"], row["height"])
        annotations = coco.imgToAnns[image_id]
        assert len(annotations) == len(row["detections"]) == 4
        for annotation, detection in zip(annotations, row["detections"], strict=True):
            mask = coco.annToMask(annotation)
            np.testing.assert_array_equal(mask, mask_of(detection["mask"]))
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            # Thousandths of a pixel, twice rounded.
            assert (x, y, x + width, y + height) == pytest.approx(detection["box"], abs=1e-3)
            score = annotation["score"]  # type: ignore[typeddict-item] # COCO's own have none
            assert score == pytest.approx(detection["score"], abs=1e-6)
            assert annotation["category_id"] == detection["class_id"]
            assert coco.cats[annotation["category_id"]]["name"] == detection["label"]


def test_coco_has_every_class_of_a_segmentation(
    segment: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment("--format", "coco") == FAILED
    coco = loaded(tmp_path / "found" / "coco.json", capsys)
    for (image_id, image), row in zip(
        coco.imgs.items(), found_rows(tmp_path / "found"), strict=True
    ):
        label_map = np.full((image["height"], image["width"]), 255)
        for annotation in coco.imgToAnns[image_id]:
            label_map[coco.annToMask(annotation) == 1] = annotation["category_id"]
            assert "score" not in annotation
        assert {each["class_id"]: each["pixels"] for each in row["classes"]} == dict(
            zip(*(each.tolist() for each in np.unique(label_map, return_counts=True)), strict=True)
        )


def test_coco_without_masks_has_boxes_alone(
    detect: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("--no-masks", "--format", "coco") == FAILED
    for annotation in loaded(tmp_path / "found" / "coco.json", capsys).anns.values():
        _, _, width, height = annotation["bbox"]
        assert annotation["segmentation"] == []
        assert annotation["area"] == pytest.approx(width * height, abs=1e-3)


def test_yolo_has_a_line_for_each_detection_in_the_tree_of_the_images(
    detect: Run, tmp_path: Path
) -> None:
    assert detect("--no-masks", "--format", "yolo") == FAILED
    folder = tmp_path / "found" / "yolo"
    names = ["000", "001", "002", "003", "005", "in/000"]
    labels = folder / "labels"
    found = [path.relative_to(labels).as_posix() for path in sorted(labels.rglob("*.txt"))]
    assert found == [f"{name}.txt" for name in names]
    assert (folder / "images.txt").read_text() == "".join(f"./images/{n}.png\n" for n in names)
    for name, row in zip(names, found_rows(tmp_path / "found"), strict=True):
        lines = (labels / f"{name}.txt").read_text().splitlines()
        classes = [int(line.split()[0]) for line in lines]
        assert classes == [each["class_id"] for each in row["detections"]]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_finished_run_gets_its_data_set_without_ray_and_without_a_network(
    kind: str, batch: Batch, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SEGMENT, "--weights", "random", "--model", "upernet_overlock_xt")
    assert batch(*words, network=BrightnessNetwork) == FAILED
    before = files_in(tmp_path / "found")
    del before["manifest.json"]  # it names the data sets

    def started(**_: Any) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr(batch_run, "local_ray", started)
    assert batch(*words, "--format", kind) == FAILED  # of the damaged image
    assert (tmp_path / "found" / FORMATS[kind]).exists()
    assert files_in(tmp_path / "found").items() >= before.items()
    assert batch(*words, "--format", kind) == FAILED


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_that_ends_while_it_writes_a_data_set_goes_on_to_the_same_files(
    kind: str, detect: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert detect("--format", kind) == FAILED
    (tmp_path / "found").rename(tmp_path / "whole")

    class Ending(FoundImages):
        def __iter__(self) -> Any:
            for number, image in enumerate(super().__iter__()):
                if number == 4:
                    raise KeyboardInterrupt
                yield image

    with monkeypatch.context() as patched:
        patched.setattr(datasets, "FoundImages", Ending)
        with pytest.raises(KeyboardInterrupt):
            detect("--format", kind)
    assert not (tmp_path / "found" / "manifest.json").exists()
    assert not (tmp_path / "found" / FORMATS[kind]).exists()
    assert detect("--format", kind) == FAILED
    assert files_in(tmp_path / "found") == files_in(tmp_path / "whole")


def test_what_a_killed_run_left_of_a_data_set_is_removed(detect: Run, tmp_path: Path) -> None:
    assert detect() == FAILED
    (tmp_path / "found" / ".yolo.4711.tmp" / "labels").mkdir(parents=True)
    (tmp_path / "found" / ".yolo.4711.tmp" / "labels" / "000.txt").touch()
    (tmp_path / "found" / ".coco.json.4711.tmp").touch()
    assert detect("--format", "coco") == FAILED
    assert [name for name in files_in(tmp_path / "found") if name.startswith(".")] == []


def test_a_part_that_is_computed_again_takes_the_data_sets_with_it(
    detect: Run, tmp_path: Path
) -> None:
    for kind in FORMATS:
        assert detect("--format", kind) == FAILED
    (tmp_path / "found" / "part-00001.parquet").unlink()
    assert detect("--format", "coco") == FAILED
    names = {path.name for path in (tmp_path / "found").glob("[!pm]*")}
    assert names == {"coco.json"}


def test_the_ids_of_shards_do_not_collide(
    detect: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images: list[int] = []
    annotations: list[int] = []
    for shard in range(2):
        detect("--shard", f"{shard}/2", "--format", "coco")
        coco = loaded(tmp_path / "found" / f"coco-{shard:05d}.json", capsys)
        images += coco.imgs
        annotations += coco.anns
    assert images == [1, 2, 3, 4, 5, 7]
    assert len(set(annotations)) == len(annotations) == 24


@pytest.mark.parametrize("kind", FORMATS)
def test_shards_have_files_of_their_own(kind: str, detect: Run, tmp_path: Path) -> None:
    for shard in range(2):
        detect("--shard", f"{shard}/2", "--format", kind)
    stem, dot, suffix = FORMATS[kind].partition(".")
    for shard in range(2):
        assert (tmp_path / "found" / f"{stem}-{shard:05d}{dot}{suffix}").exists()


@pytest.mark.parametrize("task", ["classify", "embed"])
def test_a_task_without_boxes_and_masks_has_no_data_set(
    task: str, batch: Batch, photos: Path
) -> None:
    with pytest.raises(RefusedError, match=rf"--format coco: a data set .* {task} makes none"):
        batch(task, "photos", "--output", "found", "--format", "coco")


def test_a_damaged_part_is_named(detect: Run, tmp_path: Path, capfd: Any) -> None:
    assert detect() == FAILED
    (tmp_path / "found" / "manifest.json").unlink()  # it would tell that the part has changed
    part = tmp_path / "found" / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[30:300] = bytes(270)
    part.write_bytes(content)
    assert detect("--format", "coco") == REFUSED
    assert "found has part-00001.parquet, which is damaged" in capfd.readouterr().err
    part.unlink()
    assert detect("--format", "coco") == FAILED
    assert (tmp_path / "found" / "coco.json").exists()


def test_a_name_with_a_line_break_is_refused_for_yolo(detect: Run, photos: Path) -> None:
    (photos / "000.png").rename(photos / "0\n.png")
    with pytest.raises(RefusedError, match=r"'photos/0\\n.png' has a line break"):
        detect("--format", "yolo")


def test_two_images_that_would_share_a_file_of_labels_are_refused_before_anything_is_done(
    detect: Run, photos: Path, tmp_path: Path
) -> None:
    (photos / "000.jpg").write_bytes((photos / "000.png").read_bytes())
    with pytest.raises(RefusedError, match=r"photos/000.jpg and photos/000.png would share"):
        detect("--format", "yolo")
    assert files_in(tmp_path / "found") == {}
    assert detect("--format", "coco") == FAILED


def test_a_folder_with_a_data_set_alone_is_somebody_elses(detect: Run, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "coco.json").touch()
    with pytest.raises(RefusedError, match=r"found has coco.json that no such run has written"):
        detect("--format", "coco")


def test_label_studio_shows_files_of_its_document_root(detect: Run, tmp_path: Path) -> None:
    assert detect("--format", "label-studio") == FAILED
    tasks = json.loads((tmp_path / "found" / "label-studio.json").read_text())
    assert [task["data"] for task in tasks][-1] == {
        "image": "/data/local-files/?d=photos/in/000.png",
        "path": "photos/in/000.png",
    }
    assert {len(task["predictions"][0]["result"]) for task in tasks} == {4}


def test_nothing_else_is_left(batch: Batch, tmp_path: Path) -> None:
    write_scenes(tmp_path / "photos", 2)
    words = (*SEGMENT, "--format", "coco")
    assert batch(*words, network=BrightnessNetwork) == DONE
    names = list(files_in(tmp_path / "found"))
    assert names == ["coco.json", "manifest.json", "part-00000.parquet"]


@pytest.mark.parametrize("kind", FORMATS)
def test_memory_does_not_grow_with_the_images(
    kind: str, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenes(tmp_path / "scenes", 1, [(256, 320)])
    write = datasets.Dataset.write
    most_bytes: list[int] = []

    def watched(*given: Any) -> None:
        tracemalloc.start()
        write(*given)
        most_bytes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    monkeypatch.setattr(datasets.Dataset, "write", watched)
    monkeypatch.setattr(part_file, "ROWS_AT_ONCE", 8)
    monkeypatch.setattr(yolo, "FILES_AT_ONCE", 8)
    for images in (16, 48):
        folder = tmp_path / f"photos-{images}"
        folder.mkdir()
        for number in range(images):
            os.link(tmp_path / "scenes" / "000.png", folder / f"{number:03d}.png")
        words = ("segment", folder.name, "--output", f"found-{images}", "--format", kind)
        assert batch(*words, network=BrightnessNetwork) == DONE
    few, many = most_bytes
    # Python keeps small objects for later; the files of 32 images would be twice as much.
    assert many < 1.25 * few
