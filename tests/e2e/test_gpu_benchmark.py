"""The GPU benchmark runs from its first to its last section, here on a CPU and on tiny problems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

# A GPU machine has torch, triton, numpy and pillow, and is not asked for more.
BARE = """
import runpy, sys
for absent in "safetensors cv2 tqdm fastapi zmq msgspec pydantic pycocotools".split():
    sys.modules[absent] = None
program = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(program, run_name="__main__")
"""
SECTIONS = [
    "kernel-checks",
    "network-checks",
    "kernels",
    "served",
    "profile",
    "endurance",
    "http",
    "classifiers",
    "peers",
    "dense",
    "detection",
    "latency",
    "starts",
]


@pytest.mark.timeout(600)  # a minute by itself; beside other work its processes wait for each other
def test_every_section_completes_and_every_check_is_right(tmp_path: Path) -> None:
    program = [sys.executable, "-c", BARE, "benchmarks/gpu.py"]
    options = ["--device", "cpu", "--quick", "--output", str(tmp_path / "gpu")]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [*program, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [*report["sections"]] == SECTIONS
    for name, section in report["sections"].items():
        assert section["end"] in {"complete", "stopped: its time was up"}, (name, section)
        assert section["rows"], name
        for row in section["rows"]:
            assert row.get("verdict", "ok") == "ok", row
    assert "not a measurement" in report["facts"]
    assert "no GPU; the program was only tried" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_benchmark_says_how_to_try_it() -> None:
    program = [sys.executable, "benchmarks/gpu.py"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "there is no CUDA device; --device cpu --quick tries the program" in run.stderr


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_gpu_completes_every_section_and_every_check_is_right(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    options = ["--quick", "--output", str(tmp_path / "gpu")]
    program = [sys.executable, "benchmarks/gpu.py", *options]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for name, section in json.loads((tmp_path / "gpu.json").read_text())["sections"].items():
        assert section["end"] in {"complete", "stopped: its time was up"}, (name, section)
        assert all(row.get("verdict", "ok") == "ok" for row in section["rows"]), section
