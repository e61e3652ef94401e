"""Conditions for Triton's kernels, and the reasons given when they do not hold."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from model.kernels.context_mixing import context_mixing
from model.kernels.gpu import support
from model.kernels.gpu.support import triton_unsupported_reason
from support.mixing_problem import mixing_problem

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # as if it were not installed
import torch
from model.kernels.gpu.autotune import Autotuner
from model.kernels.context_mixing import context_mixing
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.large_depthwise import large_depthwise

parts = [(1, 4, 5, 5), (1, 2, 5, 5), (1, 1, 50, 2), (1, 5, 5, 25), (1, 5, 5, 25)]
mixing = [torch.zeros(shape) for shape in parts]
weight = torch.zeros(3, 1, 7, 7)
depthwise = [torch.zeros(1, 3, 9, 9), weight, torch.zeros(3), lay_out(weight)]
context_mixing(*mixing)
large_depthwise(*depthwise, Autotuner())
for request in (
    lambda: context_mixing(*mixing, implementation="triton"),
    lambda: large_depthwise(*depthwise, "small"),
):
    try:
        request()
    except ValueError as error:
        assert "but Triton is not installed" in str(error), error
    else:
        raise AssertionError("was not refused")
"""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "TRITON_INSTALLED", True)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_inference_on_a_gpu_is_supported(dtype: torch.dtype) -> None:
    with FakeTensorMode():
        assert triton_unsupported_reason(torch.empty(2, device="cuda", dtype=dtype)) is None


@pytest.mark.usefixtures("installed")
def test_a_tensor_on_another_device_is_not_supported() -> None:
    assert triton_unsupported_reason(torch.zeros(2)) == "a tensor is on the device cpu, not on cuda"


@pytest.mark.usefixtures("installed")
def test_a_dtype_without_a_kernel_is_not_supported() -> None:
    with FakeTensorMode():
        double = torch.empty(2, device="cuda", dtype=torch.float64)
    assert triton_unsupported_reason(double) == "it does not support torch.float64"


@pytest.mark.usefixtures("installed")
def test_a_tensor_that_requires_a_gradient_is_not_supported() -> None:
    with FakeTensorMode():
        parameter = torch.empty(2, device="cuda", requires_grad=True)
    assert (
        triton_unsupported_reason(parameter)
        == "it has no backward pass, and a tensor requires a gradient"
    )
    with torch.no_grad():
        assert triton_unsupported_reason(parameter) is None


def test_an_explicit_request_is_refused_where_it_cannot_be_met() -> None:
    problem = mixing_problem(7, 7, 7, dtype=torch.float32)
    with pytest.raises(ValueError, match="The Triton kernel of ContMix was requested, but "):
        context_mixing(*problem.folded(), implementation="triton")


@pytest.mark.slow
def test_operations_work_without_triton_and_say_so_when_it_is_requested() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRITON], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
