"""docs/command-line.md and docs/python.md show what the commands and snippets print."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("words", ["predict classify", "predict segment"])
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


def test_the_client_finds_what_the_document_says(demo: RunningService) -> None:
    (snippet,) = [
        block for block in blocks("docs/python.md", "python") if "service.client" in block
    ]
    snippet = snippet.replace("http://127.0.0.1:8000", demo.url)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "star 1\n", done.stderr
