"""The compiler sees an operation's kernel in one graph, and shapes that vary stay symbolic."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[5]
PROGRAM = ROOT / "tests" / "support" / "traced_kernels.py"
OPERATIONS = ("mixed_contexts", "measured_depthwise", "label_maps", "symbolic_boxes")


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    """Return what is wrong with each operation; one process traces all of them."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be traced")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = (line.split(maxsplit=1) for line in run.stdout.splitlines())
    return {operation: ast.literal_eval(said) for operation, said in lines}


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_is_wrong(wrong: dict[str, str], operation: str) -> None:
    assert not wrong[operation], wrong[operation]
