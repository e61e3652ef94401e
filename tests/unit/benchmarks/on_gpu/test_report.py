from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.on_gpu.report import write_report

ENTRY: dict[str, Any] = {
    "title": "Times",
    "of_seconds": 10,
    "seconds": 1.5,
    "end": "complete",
    "rows": [{"model": "a", "ms": 1.235}, {"model": "b", "ms": None}],
}


def test_every_row_is_in_both_files(tmp_path: Path) -> None:
    output = tmp_path / "results" / "gpu"
    write_report({"facts": {"command": "python"}, "sections": {"times": ENTRY}}, output)
    written = json.loads(output.with_suffix(".json").read_text())
    assert written == {"facts": {"command": "python"}, "sections": {"times": ENTRY}}
    lines = output.with_suffix(".md").read_text().splitlines()
    assert "- command: python" in lines
    assert "Section `times`: complete, 1.5 s of 10." in lines
    assert lines[-4:] == ["| model | ms |", "| --- | --- |", "| a | 1.235 |", "| b |  |"]


def test_a_failure_is_printed_with_its_traceback(tmp_path: Path) -> None:
    failed = ENTRY | {"end": "failed: RuntimeError: no", "error": "Traceback\nRuntimeError: no\n"}
    write_report({"facts": {}, "sections": {"times": failed}}, tmp_path / "gpu")
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert lines[-4:] == ["```", "Traceback", "RuntimeError: no", "```"]


def test_a_value_that_json_does_not_know_spoils_no_report(tmp_path: Path) -> None:
    odd = ENTRY | {"rows": [{"size": torch.Size([2, 3]), "dtype": torch.float32}]}
    write_report({"facts": {}, "sections": {"odd": odd}}, tmp_path / "gpu")
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["sections"]["odd"]["rows"] == [{"size": [2, 3], "dtype": "torch.float32"}]
