"""The command as a function: real demo networks, few images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from model.config import DETECTORS, Task
from model.heads.detections import Detections
from model.heads.rpn import Candidates
from model.images.input_config import InputConfig
from model.labels.tables import coco_labels
from model.scenes.scenes import CLASS_NAMES, draw_scene
from model.zoo import LoadedModel, create_model
from service.commands.evaluate import run

DEMO = ("classify", "--model", "demo", "--weights", "demo", "--device", "cpu")
DETECT = ("detect", "--model", "mask_rcnn_overlock_xt", "--weights", "random", "--device", "cpu")
Evaluate = Callable[..., int]


def read(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return contents


@pytest.mark.slow
def test_the_demo_knows_the_drawn_scenes(
    evaluated: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    assert evaluated(*DEMO, "--data", "demo", "--limit", "24", "--output", output) == 0
    report = read(output)
    assert report["metrics"]["top1"] > 90
    assert report["counts"]["total"] == report["items"] == 24
    assert (report["published"], report["data_items"]) == (None, 2000)
    assert report["torch"] == torch.__version__
    assert report["command"].startswith("overlock evaluate classify --model demo")
    text = capsys.readouterr().out
    assert f"top-1 accuracy  {report['metrics']['top1']:8.2f}" in text
    assert "Demo weights" in text


@pytest.mark.slow
def test_two_parts_merge_to_the_whole(evaluated: Evaluate, tmp_path: Path) -> None:
    whole, first, second, merged = (tmp_path / f"{n}.json" for n in ("w", "a", "b", "m"))
    parts = {whole: ("0", "12"), first: ("0", "5"), second: ("5", "7")}
    for path, (offset, limit) in parts.items():
        part = ("--offset", offset, "--limit", limit, "--output", path)
        assert evaluated(*DEMO, "--data", "demo", "--batch-size", "4", *part) == 0
    assert evaluated("merge", second, first, "--output", merged) == 0
    for key in ("metrics", "counts", "items", "ranges", "digest", "settings"):
        assert read(merged)[key] == read(whole)[key]


@pytest.mark.slow
def test_a_folder_of_the_same_scenes_gives_the_same_counts(
    evaluated: Evaluate, tmp_path: Path
) -> None:
    for name in CLASS_NAMES:
        (tmp_path / "data" / name).mkdir(parents=True)
    for seed in range(16):
        scene = draw_scene(seed)
        path = tmp_path / "data" / CLASS_NAMES[scene.label] / f"{seed}.png"
        Image.fromarray(scene.image).save(path)
    drawn, stored = tmp_path / "drawn.json", tmp_path / "stored.json"
    assert evaluated(*DEMO, "--data", "demo", "--limit", "16", "--output", drawn) == 0
    assert evaluated(*DEMO, "--data", tmp_path / "data", "--output", stored) == 0
    assert read(stored)["counts"] == read(drawn)["counts"]


def test_random_weights_take_the_classes_of_the_scenes_and_are_called_random(
    evaluated: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    segment = ("segment", "--model", "demo", "--weights", "random", "--data", "demo")
    assert evaluated(*segment, "--limit", "2", "--output", output) == 0
    counts = read(output)["counts"]
    assert len(counts["intersect"]) == len(CLASS_NAMES) + 1
    assert sum(counts["label"]) == sum(counts["predicted"]) == 2 * 224 * 224
    assert "Random weights" in capsys.readouterr().out


class KnowsThePerson(nn.Module):
    """Finds one person where the annotations have it."""

    def maps(self, images: Tensor) -> tuple[list[Tensor], Candidates]:
        return [images], Candidates(torch.zeros(1, 1), torch.zeros(1, 1, 4), torch.zeros(1))

    def detections(self, *_: object) -> list[Detections]:
        return [
            Detections(
                boxes=torch.tensor([[8.0, 4.0, 40.0, 28.0]]),
                scores=torch.tensor([0.9]),
                labels=torch.tensor([coco_labels().index("person")]),
                masks=torch.ones(1, 28, 28),
            )
        ]


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """COCO's layout with two images, and a detector that knows what is on the first."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    images = []
    for number in (1, 2):
        Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(
            tmp_path / "val2017" / f"{number}.jpg"
        )
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 48, "height": 32})
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 101,
        "bbox": [8, 4, 32, 24],
        "area": 32 * 24,
        "iscrowd": 0,
        "segmentation": [[8, 4, 40, 4, 40, 28, 8, 28]],
    }
    contents = {
        "images": images,
        "annotations": [annotation, {**annotation, "id": 2, "image_id": 2, "bbox": [0, 0, 5, 5]}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(coco_labels(), start=101)],
    }
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(contents), encoding="utf-8")

    def load_model(name: str, **_: object) -> LoadedModel:
        network: Any = KnowsThePerson()
        config = InputConfig(DETECTORS[name].geometry)
        labels = coco_labels()
        return LoadedModel(
            name,
            Task.DETECT,
            network,
            "w3x.pth",
            "abc",
            labels,
            None,
            config,
            "raw",
            DETECTORS[name],
        )

    monkeypatch.setattr(run, "load_model", load_model)
    return tmp_path


def test_a_detector_is_measured_by_boxes_and_masks(
    evaluated: Evaluate, coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    assert evaluated(*DETECT, "--data", coco, "--limit", "1", "--output", output) == 0
    report = read(output)
    assert report["metrics"]["box_ap"] == pytest.approx(100)
    assert report["metrics"]["mask_ap"] == pytest.approx(100)
    assert report["counts"]["image_ids"] == [1]
    (found,) = json.loads((tmp_path / "r.json.detections.json").read_text("utf-8"))
    assert (found["category_id"], found["bbox"]) == (101, [8, 4, 32, 24])
    assert "mask AP" in capsys.readouterr().out


def test_a_detectors_parts_merge_to_the_whole(
    evaluated: Evaluate, coco: Path, tmp_path: Path
) -> None:
    whole, first, second, merged = (tmp_path / f"{n}.json" for n in ("w", "a", "b", "m"))
    assert evaluated(*DETECT, "--data", coco, "--output", whole) == 0
    assert evaluated(*DETECT, "--data", coco, "--limit", "1", "--output", first) == 0
    assert evaluated(*DETECT, "--data", coco, "--offset", "1", "--output", second) == 0
    assert evaluated("merge", first, second, "--output", merged) == 0
    assert read(merged)["metrics"] == read(whole)["metrics"]
    assert read(whole)["metrics"]["box_ap"] < read(first)["metrics"]["box_ap"]


def test_annotations_and_images_may_lie_anywhere(evaluated: Evaluate, coco: Path) -> None:
    annotations = coco / "elsewhere.json"
    (coco / "annotations" / "instances_val2017.json").rename(annotations)
    places = ("--annotations", annotations, "--images", coco / "val2017")
    assert evaluated(*DETECT, *places) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("classify", "--model", "resnet50"), "There is no classifier 'resnet50'; there are over"),
        (
            ("classify", "--model", "upernet_overlock_t"),
            "upernet_overlock_t is a segmenter: overlock evaluate segment --model upernet_overl",
        ),
        (("segment", "--model", "overlock_t"), "overlock_t is a classifier: overlock evaluate cl"),
        (("classify", "--model", "demo", "--weights", "none.pth"), "There is no weights file"),
        (("classify", "--model", "demo", "--data", "nowhere"), "There is no folder nowhere."),
        (("segment", "--model", "demo", "--data", "nowhere"), "There is no folder nowhere."),
        (
            ("classify", "--model", "overlock_xt", "--data", "."),
            "class folders, the model has 1000 classes",
        ),
        (("detect", "--model", "mask_rcnn_overlock_xt"), "The drawn scenes have no boxes"),
        (
            ("detect", "--model", "mask_rcnn_overlock_xt", "--data", "nowhere"),
            "There is no annotation file nowhere/annotations/instances_val2017.json",
        ),
        (("classify", "--model", "demo", "--input-size", "8"), "--input-size is 8; it is from 32"),
        (("classify", "--model", "demo", "--mean", "0.5"), "--mean: mean states 1 channel"),
        (("segment", "--model", "demo", "--crop-pct", "1"), "crop_pct can be set for a classifier"),
        (("classify", "--model", "demo", "--weights", "one.pth"), "top-1 accuracy is always 100 %"),
        (("classify", "--model", "demo", "--weights", "ema.pth", "--raw"), "EMA weights alone"),
        (("classify", "--model", "demo", "--offset", "2000"), "Offset 2000 is past the last"),
        (("classify", "--model", "demo", "--device", "cuda:99"), "Device cuda:99 was asked for"),
        (
            ("classify", "--model", "demo", "--output", "no/r.json"),
            "cannot be written to no/r.json",
        ),
        (("merge", "none.json"), "The report none.json cannot be read"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    evaluated: Evaluate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    one = create_model("demo", weights="random", num_classes=1, fused=False).state_dict()
    torch.save(one, "one.pth")
    torch.save({"state_dict_ema": one}, "ema.pth")
    if arguments[0] != "merge":
        defaults = {"--weights": "random", "--data": "demo"}
        missing = [word for item in defaults.items() if item[0] not in arguments for word in item]
        arguments = (*arguments, *missing)
    assert evaluated(*arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("overlock evaluate: ")
    assert message in line
    assert captured.out == ""


def test_a_detector_needs_data(evaluated: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(*DETECT, "--images", "somewhere") == 2
    assert "Give --data, or both --annotations and --images." in capsys.readouterr().err


def test_the_reports_command_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["classify", "--weights", "https://u:secret@h/m?secret#sha256=00", "--data", "a?b"]
    monkeypatch.setattr("sys.argv", ["evaluate", *words, "--weights=https://h/m?secret"])
    assert run._command() == (
        "overlock evaluate classify --weights 'https://h/m#sha256=00' --data 'a?b' "
        "--weights=https://h/m"
    )
