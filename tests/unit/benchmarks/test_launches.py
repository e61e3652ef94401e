"""A batch of OverLoCK-T launches no more kernels than are counted here; each costs microseconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

LAUNCHES = {64: 389, 1: 397}
"""By number of images. docs/performance.md says which they are."""

KINDS = {"GpuBasicBlock": 7, "GpuDynamicBlock": 18}
"""Launches of a block; of a dynamic one on a map as large as the grid of contexts, one fewer."""

COUNT_KINDS = f"""
from benchmarks.launches import count_launches
for part in count_launches("demo", 1, {[*KINDS]}):
    print(part.kind, sum(part.launches.values()))
"""


def run(*arguments: str) -> list[list[str]]:
    """Run Python without Triton's interpreter, which has no compiled kernels; return its words."""
    pytest.importorskip("triton", reason="Triton is not installed: there are no kernels")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return [line.split() for line in finished.stdout.splitlines()]


@pytest.mark.compiler
def test_a_block_launches_few_kernels() -> None:
    counts = {kind: int(count) for kind, count in run("-c", COUNT_KINDS)}
    assert counts == KINDS


@pytest.mark.exhaustive
@pytest.mark.timeout(600)  # twelve graphs on a busy machine
@pytest.mark.parametrize("images", LAUNCHES)
def test_a_batch_of_t_launches_fewer_than_400_kernels(images: int) -> None:
    lines = run("-m", "benchmarks.launches", "--batch", str(images))
    counts = {" ".join(words): int(count) for count, *words in lines}
    assert counts["our activated_depthwise"] == 44, lines  # the dynamic blocks' other one, too
    assert counts["our position_norm"] == 44, lines
    assert counts[f"launches of {images} images"] == LAUNCHES[images] < 400, lines
    for times, kind in ((6, "GpuBasicBlock"), (12, "GpuDynamicBlock")):  # the longest stages
        assert [str(times), "x", str(KINDS[kind]), kind] in lines
