"""The same numbers as ``overlock predict --json``, row by row, for each task."""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.commands.batch.actors import local_network
from service.commands.console.exits import FAILED
from service.commands.predict import local
from service.commands.predict.arguments import fill_parser
from service.commands.predict.conversion import request_of, settings_of
from service.commands.predict.local import LocalPredictor
from service.commands.predict.report import PredictionReport
from service.commands.predict.sources import find_sources
from support.batch_networks import DetectingNetwork
from support.batch_runs import Batch, rows_of, write_scenes

pytestmark = pytest.mark.timeout(600)  # a cluster starts its processes on a busy machine

SIZES = [(64, 80), (96, 64)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images of two shapes, and a damaged one between them."""
    write_scenes(tmp_path / "photos", 4, SIZES)
    (tmp_path / "photos" / "001b.png").write_bytes(
        (tmp_path / "photos" / "001.png").read_bytes()[:90]
    )
    return tmp_path / "photos"


def predicted(
    capsys: pytest.CaptureFixture[str], *words: str, batch_size: int = 1
) -> list[dict[str, Any]]:
    """Return the lines of ``overlock predict --json``."""
    parser = argparse.ArgumentParser()
    fill_parser(parser)
    parsed = parser.parse_args([*words, "--json"])
    settings, spec = settings_of(parsed)
    request = request_of(parsed)
    sources, _ = find_sources(parsed.files, None)  # type: ignore[arg-type]
    capsys.readouterr()
    with PredictionReport(sources, request.task, as_json=True, folder=None) as report:
        for outcome in LocalPredictor(settings, spec, request, batch_size).outcomes(sources):
            report.add(outcome)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def as_predicted(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in the words of ``predict --json``."""
    if row["error"] is not None:
        assert all(row[name] is None for name in row if name not in {"path", "error"})
        error = {"kind": row["error"]["slug"], "detail": row["error"]["detail"]}
        return {"file": row["path"], "error": error}
    found = {"file": row["path"], **row}
    if "label_map" in row:
        found["mask"] = {"format": "png", "data": base64.b64encode(row["label_map"]).decode()}
    return {name: value for name, value in found.items() if name not in {"path", "error"}}


def assert_equal(rows: list[dict[str, Any]], lines: list[dict[str, Any]], *columns: str) -> None:
    found = [as_predicted(row) for row in rows]
    assert [each["file"] for each in found] == [line["file"] for line in lines]
    for mine, line in zip(found, lines, strict=True):
        assert mine.get("error") == line.get("error")
        if "error" in line:
            continue
        for present in line.get("classes", []):
            del present["color"]
        for column in columns:
            assert mine[column] == line[column]
        if "width" in mine:
            assert (mine["width"], mine["height"]) == (
                line["image"]["width"],
                line["image"]["height"],
            )


TASKS = [
    ("classify", (), ("predictions",)),
    ("segment", (), ("mask", "classes")),
    ("embed", ("--normalize",), ("embedding",)),
]


@pytest.mark.parametrize(("task", "words", "columns"), TASKS)
def test_the_rows_are_those_of_predict(
    task: str,
    words: tuple[str, ...],
    columns: tuple[str, ...],
    batch: Batch,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ("--mask", "png") if task == "segment" else ()
    given = (task, "photos", "--output", "found", "--batch-size", "1", *words)
    assert batch(*given, network=local_network) == FAILED
    assert_equal(
        rows_of(tmp_path / "found"), predicted(capsys, task, "photos", *words, *more), *columns
    )


def test_the_detections_are_those_of_predict(
    batch: Batch,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--model", "mask_rcnn_overlock_xt", "--weights", "random", "--max-detections", "1")
    given = ("detect", "photos", "--output", "found", "--batch-size", "1", *words)
    assert batch(*given, network=DetectingNetwork) == FAILED
    monkeypatch.setattr(local, "LocalNetwork", DetectingNetwork)
    rows = rows_of(tmp_path / "found")
    assert_equal(rows, predicted(capsys, "detect", "photos", *words), "detections")
    assert [len(row["detections"] or []) for row in rows] == [1, 1, 0, 1, 1]
    assert rows[0]["detections"][0]["mask"]["size"] == [64, 80]


@pytest.fixture
def aerials(tmp_path: Path) -> Path:
    """Two large images of different tile counts, one that fits in a tile, and two bad ones."""
    folder = tmp_path / "aerials"
    write_scenes(folder, 3, [(500, 600), (200, 240), (300, 700)])
    (folder / "001b.png").write_bytes((folder / "001.png").read_bytes()[:90])
    Image.new("RGB", (4000, 800)).save(folder / "001c.png")
    return folder


def test_the_rows_of_images_in_tiles_are_those_of_predict(
    batch: Batch, aerials: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("segment", "aerials", "--tile", "256", "--overlap", "0.25")
    given = (*words, "--output", "found", "--batch-size", "4")
    assert batch(*given, network=local_network) == FAILED
    rows = rows_of(tmp_path / "found")
    lines = predicted(capsys, *words, "--mask", "png", batch_size=4)
    assert_equal(rows, lines, "mask", "classes")
    slugs = [None if row["error"] is None else row["error"]["slug"] for row in rows]
    assert slugs == [None, None, "invalid-image", "invalid-parameter", None]
    assert "at most 64 are done" in rows[3]["error"]["detail"]


def test_the_detections_in_tiles_are_those_of_predict(
    batch: Batch,
    aerials: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ("--model", "mask_rcnn_overlock_xt", "--weights", "random")
    words = ("detect", "aerials", "--tile", "256", "--score-threshold", "0.5", *model)
    given = (*words, "--output", "found", "--batch-size", "4")
    assert batch(*given, network=DetectingNetwork) == FAILED
    monkeypatch.setattr(local, "LocalNetwork", DetectingNetwork)
    rows = rows_of(tmp_path / "found")
    assert_equal(rows, predicted(capsys, *words, batch_size=4), "detections")
    found = [len(row["detections"] or []) for row in rows]
    assert found[0] > found[4] > found[1] == 2  # the same two in each pass
    assert rows[0]["detections"][0]["mask"]["size"] == [500, 600]


def test_ray_gives_the_same_rows(
    on_ray: Batch, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("classify", "photos", "--output", "found", "--batch-size", "1", "--part-size", "3")
    assert on_ray(*words) == FAILED
    assert_equal(
        rows_of(tmp_path / "found"), predicted(capsys, "classify", "photos"), "predictions"
    )
