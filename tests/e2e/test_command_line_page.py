"""docs/command-line.md and docs/python.md show what the commands and snippets print."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.config import Task
from support.command_line import overlock
from support.documents import ROOT, blocks
from support.running_service import RunningService


def consoles(words: str) -> tuple[list[str], list[str]]:
    """Return the command of the console block that begins with these words, and its output."""
    (block,) = [
        block
        for block in blocks("docs/command-line.md", "console")
        if block.startswith(f"$ overlock {words} ")
    ]
    command, *lines = block.splitlines()
    return shlex.split(command)[2:], lines


def cells(line: str) -> list[str | float]:
    """Return a line's words, numbers as such."""
    return [float(word) if re.fullmatch(r"[\d.]+", word) else word for word in line.split()]


@pytest.mark.parametrize("words", [f"predict {task}" for task in Task if task != "detect"])
def test_the_command_line_prints_what_the_document_shows(words: str, demo: RunningService) -> None:
    command, shown = consoles(words)
    command = [word.replace("http://127.0.0.1:8000", demo.url) for word in command]
    lines = overlock(*command, folder=ROOT).stdout.decode().splitlines()
    assert len(lines) == len(shown)
    for got, expected in zip(lines, shown, strict=True):
        for mine, theirs in zip(cells(got), cells(expected), strict=True):
            # Another processor's rounding may move a percentage by a digit.
            assert mine == (pytest.approx(theirs, abs=0.2) if isinstance(theirs, float) else theirs)


def test_the_load_is_measured_as_the_document_shows(demo: RunningService) -> None:
    command, shown = consoles("bench")
    command = [word.replace("http://127.0.0.1:8000", demo.url) for word in command]
    command[command.index("--seconds") + 1] = "1.2"
    lines = overlock(*command, folder=ROOT).stdout.decode().splitlines()
    assert lines[0] == shown[0]
    assert [line.split()[:2] for line in lines] == [line.split()[:2] for line in shown]


@pytest.mark.parametrize("document", ["docs/command-line.md", "docs/capacity.md"])
def test_a_plan_is_what_the_documents_show(document: str) -> None:
    (block,) = [each for each in blocks(document, "console") if "$ overlock plan " in each]
    command, *shown = block.splitlines()
    lines = overlock(*shlex.split(command)[2:], folder=ROOT).stdout.decode().splitlines()
    # The same arrivals by the same seed: nothing may differ.
    assert lines[: len(shown)] == shown


def test_a_service_is_planned_with_what_it_has_learnt(demo: RunningService) -> None:
    words = ("--url", demo.url, "--rate", "1", "--p99", "20", "--max-batch-size", "2", "--json")
    done = overlock("plan", *words, folder=ROOT)
    found = json.loads(done.stdout)
    assert found["replica"]["per_image_seconds"] > 0
    assert found["needed"]["replicas"] >= 1
    assert b"overlock: classify with demo on cpu (CPU" in done.stderr


@pytest.mark.parametrize(
    ("module", "printed"),
    [
        ("from service.client import", "star 1\n256\nbackground\nstar [7, 7]\n"),
        ("import httpx", "(256,) True\n"),
    ],
)
def test_a_call_of_the_service_prints_what_the_document_says(
    module: str, printed: str, demo: RunningService, tmp_path: Path
) -> None:
    (snippet,) = [block for block in blocks("docs/python.md", "python") if module in block]
    snippet = snippet.replace("http://127.0.0.1:8000", demo.url)
    image = tmp_path / "docs" / "images" / "star.png"
    image.parent.mkdir(parents=True)
    image.write_bytes((ROOT / "docs" / "images" / "star.png").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == printed, done.stderr
    written = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert written == (["explained.png"] if "explain" in snippet else [])


def test_a_folder_of_vectors_becomes_cosines(tmp_path: Path) -> None:
    (snippet,) = blocks("docs/command-line.md", "python")
    (tmp_path / "vectors" / "deep").mkdir(parents=True)
    for place, vector in (("a.png", [1.0, 0.0]), ("deep/b.png", [0.6, 0.8])):
        np.save(tmp_path / "vectors" / f"{place}.npy", np.array(vector, np.float32))
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}\nprint(cosines.round(3).tolist())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)[0] == pytest.approx([1.0, 0.6]), done.stderr
