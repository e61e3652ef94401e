from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.command_line import overlock
from support.running_service import RunningService

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def curl(demo: RunningService, path: str) -> bytes:
    """Run the README's curl command for a path and return what it receives."""
    (command,) = [block for block in blocks("bash") if block.startswith("curl") and path in block]
    words = shlex.split(command.replace("localhost:8000", f"127.0.0.1:{demo.port}"))
    if "-o" in words:
        del words[words.index("-o") :]
    return subprocess.run([*words, "-s"], cwd=ROOT, capture_output=True, check=True).stdout


def test_the_overlay_is_the_one_that_the_readme_shows(demo: RunningService) -> None:
    with (
        Image.open(io.BytesIO(curl(demo, "/v1/segment"))) as got,
        Image.open(ROOT / "docs" / "images" / "star-overlay.png") as shown,
    ):
        assert got.size == shown.size
        # Another processor's rounding may move a border by a pixel.
        same = (np.asarray(got) == np.asarray(shown)).all(axis=2).mean()
    assert same > 0.99


def test_the_curl_command_prints_what_the_readme_shows(demo: RunningService) -> None:
    output = curl(demo, "/v1/classify")
    (shown,) = blocks("json")
    got, expected = json.loads(output), json.loads(shown)
    assert got.keys() == expected.keys()
    assert got["timing"].keys() == expected["timing"].keys()
    assert got["image"] == expected["image"]
    for mine, theirs in zip(got["predictions"], expected["predictions"], strict=True):
        assert mine["label"] == theirs["label"]
        assert mine["score"] == pytest.approx(theirs["score"], abs=2e-3)


def test_the_start_says_what_the_readme_shows() -> None:
    (shown,) = blocks("text")
    with RunningService(dtype="auto") as service:
        log = [without_what_varies(line) for line in service.log.splitlines()]
    shown_lines = [without_what_varies(line) for line in shown.splitlines() if line]
    assert [line for line in shown_lines if line not in log] == []


def without_what_varies(line: str) -> str:
    """Return a log line's words: times, versions and ports differ, and what suits the machine."""
    words = re.sub(r"b?float\d+", "TYPE", re.sub(r"\(auto: .*?\)", "(auto)", line[9:]))
    return re.sub(r"\d+(\.\d+)*", "N", words)


def consoles(words: str) -> tuple[list[str], list[str]]:
    """Return the command of the console block that begins with these words, and its output."""
    (block,) = [block for block in blocks("console") if block.startswith(f"$ overlock {words} ")]
    command, *lines = block.splitlines()
    return shlex.split(command)[2:], lines


def cells(line: str) -> list[str | float]:
    """Return a line's words, numbers as such."""
    return [float(word) if re.fullmatch(r"[\d.]+", word) else word for word in line.split()]


@pytest.mark.parametrize("words", ["predict classify", "predict segment"])
def test_the_command_line_prints_what_the_readme_shows(words: str, demo: RunningService) -> None:
    command, shown = consoles(words)
    command = [word.replace("http://127.0.0.1:8000", demo.url) for word in command]
    lines = overlock(*command, folder=ROOT).stdout.decode().splitlines()
    assert len(lines) == len(shown)
    for got, expected in zip(lines, shown, strict=True):
        for mine, theirs in zip(cells(got), cells(expected), strict=True):
            # Another processor's rounding may move a percentage by a digit.
            assert mine == (pytest.approx(theirs, abs=0.2) if isinstance(theirs, float) else theirs)


def test_the_load_is_measured_as_the_readme_shows(demo: RunningService) -> None:
    command, shown = consoles("bench")
    command = [word.replace("http://127.0.0.1:8000", demo.url) for word in command]
    command[command.index("--seconds") + 1] = "1.2"
    lines = overlock(*command, folder=ROOT).stdout.decode().splitlines()
    assert lines[0] == shown[0]
    assert [line.split()[:2] for line in lines] == [line.split()[:2] for line in shown]


@pytest.mark.parametrize("document", ["README.md", "docs/capacity.md"])
def test_a_plan_is_what_the_documents_show(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n\$ (overlock plan .*?)```", text, re.DOTALL)
    command, *shown = block.splitlines()
    lines = overlock(*shlex.split(command)[1:], folder=ROOT).stdout.decode().splitlines()
    # The same arrivals by the same seed: nothing may differ.
    assert lines[: len(shown)] == shown


def test_a_service_is_planned_with_what_it_has_learnt(demo: RunningService) -> None:
    words = ("--url", demo.url, "--rate", "1", "--p99", "20", "--max-batch-size", "2", "--json")
    done = overlock("plan", *words, folder=ROOT)
    found = json.loads(done.stdout)
    assert found["replica"]["per_image_seconds"] > 0
    assert found["needed"]["replicas"] >= 1
    assert b"overlock: classify with demo on cpu (CPU" in done.stderr


def test_the_client_finds_what_the_readme_says(demo: RunningService) -> None:
    (snippet,) = [block for block in blocks("python") if "service.client" in block]
    snippet = snippet.replace("http://127.0.0.1:8000", demo.url)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "star 1\n", done.stderr
