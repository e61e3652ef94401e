"""docs/export.md: what is written, and a program of others that classifies with it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from model.scenes.scenes import draw_scene
from support.command_line import overlock
from support.documents import blocks

PAGE = "docs/export.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file that the document's first command writes."""
    folder = tmp_path_factory.mktemp("export")
    command, *shown = blocks(PAGE, "console")[0].splitlines()
    done = overlock(*shlex.split(command)[2:], folder=folder)
    assert done.returncode == 0, done.stderr
    written = done.stdout.decode().splitlines()
    numbers = re.compile(r"\d+(\.\d+e-\d+)?(?= bytes| s$| \(limit)")  # of the machine and versions
    assert [numbers.sub("N", line) for line in written] == [
        numbers.sub("N", line) for line in shown
    ]
    return folder


@pytest.mark.parametrize("size", [(240, 320), (320, 250)], ids=str)
def test_a_program_with_onnxruntime_alone_answers_as_predict_does(
    size: tuple[int, int], folder: Path
) -> None:
    photo = folder / "photo.jpg"
    Image.fromarray(draw_scene(530_000, *size).image).save(photo, quality=90)
    (script,) = [block for block in blocks(PAGE, "python") if "onnxruntime" in block]
    assert len(script.splitlines()) <= 20
    command = [sys.executable, "-P", "-c", script, "demo.onnx", str(photo)]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    label, score = found.stdout.split()
    predicted = overlock("predict", "classify", str(photo), "--json", folder=folder)
    (best, *_) = json.loads(predicted.stdout)["predictions"]
    assert label == best["label"]
    assert float(score) == pytest.approx(best["score"], abs=1e-3)
