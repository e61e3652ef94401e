from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from model.config import Task
from model.pretrained.records import Record, write_record
from service import cli
from service.commands.models import listed_models


def overlock_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["overlock", "models", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_the_papers_numbers_stand_beside_the_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = overlock_models(monkeypatch, capsys)
    assert len(lines) == 1 + 5 + 5 + 8
    words = {tuple(line.split()[:2]): " ".join(line.split()[2:]) for line in lines}
    assert words["overlock_t", "classify"] == "33.5 M 5.6 top-1 84.2 -"
    assert words["demo", "segment"] == "1.0 M - - bundled"
    assert words["upernet_overlock_b", "segment"] == "124.4 M - mIoU 51.7 -"
    expected = "52.3 M - AP 48.3/43.3 (1x), AP 49.6/43.9 (3x) -"
    assert words["mask_rcnn_overlock_t", "detect"] == expected
    assert words["cascade_mask_rcnn_overlock_t", "detect"] == "85.3 M - AP 52.4 (3x) -"


def test_programs_get_a_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERLOCK_CACHE_DIR", str(tmp_path))
    weights = tmp_path / "weights" / "overlock_t.safetensors"
    weights.parent.mkdir()
    weights.touch()
    write_record(Record("overlock_t", "a URL", "a.pth", "0", "0", "2025-01-31"), weights.parent)
    models = [json.loads(line) for line in overlock_models(monkeypatch, capsys, "--json")]
    assert models[1] == {
        "name": "overlock_t",
        "task": "classify",
        "parameters": 33_467_040,
        "gmacs": 5.6,
        "paper": {"top1": 84.2},
        "cached": str(weights),
    }
    assert models[0]["cached"] is None


def test_detectors_have_a_number_for_each_length_of_training(tmp_path: Path) -> None:
    (found,) = [each for each in listed_models(tmp_path) if each.name == "mask_rcnn_overlock_s"]
    assert found.task is Task.DETECT
    assert found.paper == {
        "box_ap_1x": 49.4,
        "mask_ap_1x": 44.0,
        "box_ap_3x": 51.0,
        "mask_ap_3x": 45.0,
    }
