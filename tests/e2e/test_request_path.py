"""The number of our files that a reader has to open to follow one classification."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from service.commands.bench.sample_image import draw_photograph
from support.running_service import CLIENT, RunningService

INJECTION = Path(__file__).with_name("request_path")

MAX_FILES = 40

BACKGROUND = {"service/processes/heartbeat.py", "service/logs.py"}
"""One runs every second, whatever is requested; the other formats whatever is logged."""


def test_a_classification_crosses_at_most_forty_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(INJECTION), prepend=os.pathsep)
    monkeypatch.setenv("REQUEST_PATH_FOLDER", str(tmp_path))
    body = draw_photograph(np.random.default_rng(0))
    flag = tmp_path / "flag"
    with RunningService(segment_model="off") as service:
        classify = f"{service.url}/v1/classify"
        # The first request also loads what later ones find loaded.
        assert CLIENT.post(classify, content=body).status_code == 200
        flag.touch()
        assert CLIENT.post(classify, content=body).status_code == 200
        time.sleep(0.2)  # the engine records the batch after it has answered
        flag.unlink()
    lists = [file.read_text().splitlines() for file in tmp_path.glob("*.files")]
    assert len(lists) == 2, "one HTTP worker and one engine"
    files = sorted({file for each in lists for file in each} - BACKGROUND)
    sys.stdout.write("\n".join([*files, f"{len(files)} files\n"]))
    assert len(files) <= MAX_FILES
    assert {"service/web/pipeline/pipeline.py", "service/engine/runner.py"} <= {*files}
