"""The build of an image for GPUs compiles Triton's launcher and a kernel, or ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from model.kernels.gpu.toolchain import missing_tool
from support.documents import ROOT, text_of

pytestmark = pytest.mark.slow

REQUIRED = f"cuda>={torch.version.cuda}"


def check(required: str, **variables: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("triton", reason="Triton is not installed")
    if (missing := missing_tool()) is not None:
        pytest.skip(missing)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, str(ROOT / "docker" / "check_kernels.py"), required],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_launcher_and_kernel_are_compiled() -> None:
    done = check(REQUIRED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("bytes for sm_90: compiled.\n")


def test_a_missing_compiler_ends_the_build() -> None:
    done = check(REQUIRED, CC="nowhere")
    assert done.returncode == 1
    assert "the C compiler, which Triton needs, cannot be run" in done.stderr


def test_an_image_asks_for_the_cuda_of_its_torch() -> None:
    done = check("cuda>=1.0")
    assert done.returncode == 1
    assert f"torch is built for CUDA {torch.version.cuda}" in done.stderr
    assert 'check_kernels.py "${NVIDIA_REQUIRE_CUDA}"' in text_of("Dockerfile")
