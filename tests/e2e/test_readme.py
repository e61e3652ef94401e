from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from support.documents import ROOT, blocks, run_curl
from support.running_service import RunningService

README = "README.md"


def test_the_overlay_is_the_one_that_the_readme_shows(demo: RunningService) -> None:
    with (
        Image.open(io.BytesIO(run_curl(README, "/v1/segment", demo.port))) as got,
        Image.open(ROOT / "docs" / "images" / "star-overlay.png") as shown,
    ):
        assert got.size == shown.size
        # Another processor's rounding may move a border by a pixel.
        same = (np.asarray(got) == np.asarray(shown)).all(axis=2).mean()
    assert same > 0.99


def test_the_curl_command_prints_what_the_readme_shows(demo: RunningService) -> None:
    output = run_curl(README, "/v1/classify", demo.port)
    (shown,) = blocks(README, "json")
    got, expected = json.loads(output), json.loads(shown)
    assert got.keys() == expected.keys()
    assert got["timing"].keys() == expected["timing"].keys()
    assert got["image"] == expected["image"]
    for mine, theirs in zip(got["predictions"], expected["predictions"], strict=True):
        assert mine["label"] == theirs["label"]
        assert mine["score"] == pytest.approx(theirs["score"], abs=2e-3)


def test_the_start_says_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # as where a user starts it
    (shown,) = blocks(README, "text")
    with RunningService(dtype="auto") as service:
        log = [without_what_varies(line) for line in service.log.splitlines()]
    shown_lines = [without_what_varies(line) for line in shown.splitlines() if line]
    assert [line for line in shown_lines if line not in log] == []


def without_what_varies(line: str) -> str:
    """Return a log line's words: times, versions and ports differ, and what suits the machine."""
    words = re.sub(r"b?float\d+", "TYPE", re.sub(r"\(auto: .*?\)", "(auto)", line[9:]))
    return re.sub(r"\d+(\.\d+)*", "N", words)
