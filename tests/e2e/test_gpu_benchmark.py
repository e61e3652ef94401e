"""The GPU benchmark runs from its first to its last section, here on a CPU and on tiny problems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]

# A GPU machine has torch, triton, numpy and pillow; nothing more may be needed. Every process
# imports this module when it starts.
ABSENT = """
import sys
for absent in "safetensors cv2 tqdm fastapi msgspec pydantic pycocotools".split():
    sys.modules[absent] = None
"""
SECTIONS = {
    "A": ["smoke", "served", "profile", "dense", "network-checks", "caches"],
    "B": ["switches", "endurance", "kernels", "classifiers", "starts", "http", "caches"],
}


def check_report(folder: Path, run: str) -> dict[str, Any]:
    """Check that every section of a run completed and that every comparison is right."""
    report = json.loads((folder / f"gpu-{run.lower()}.json").read_text())
    sections: dict[str, Any] = report["sections"]
    assert [*sections] == SECTIONS[run]
    for name, section in sections.items():
        assert section["end"] in {"complete", "stopped: its time was up"}, (name, section)
        assert section["rows"], name
        for row in section["rows"]:
            assert row.get("verdict", "ok") == "ok", row
    return sections


@pytest.mark.timeout(900)  # a minute by itself; beside other work its processes wait
@pytest.mark.parametrize("name", ["A", pytest.param("B", marks=pytest.mark.exhaustive)])
def test_every_section_completes_and_every_check_is_right(tmp_path: Path, name: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    program = [sys.executable, "benchmarks/gpu.py"]
    options = ["--device", "cpu", "--quick", "--run", name, "--output", str(tmp_path / "results")]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(tmp_path), environment.get("PYTHONPATH")])
    )
    run = subprocess.run(
        [*program, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    sections = check_report(tmp_path / "results", name)
    report = (tmp_path / "results" / f"gpu-{name.lower()}.md").read_text()
    assert "no GPU; the program was only tried" in report
    if "http" in sections:
        assert "missing" in sections["http"]["rows"][0]["what"]
    assert (tmp_path / "results" / "caches.tar.gz.0").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_benchmark_says_how_to_try_it() -> None:
    program = [sys.executable, "benchmarks/gpu.py"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "there is no CUDA device; --device cpu --quick tries the program" in run.stderr


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_gpu_completes_every_section_and_every_check_is_right(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    options = ["--quick", "--output", str(tmp_path)]
    program = [sys.executable, "benchmarks/gpu.py", *options]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for name in SECTIONS:
        check_report(tmp_path, name)
