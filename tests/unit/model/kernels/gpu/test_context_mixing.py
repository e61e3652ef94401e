"""The Triton kernel of ContMix gives what the reference gives."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.kernels.context_mixing import context_mixing
from model.kernels.gpu.mixing_orders import triton_orders
from support.mixing_problem import MixingProblem, mixing_problem

LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
# A logit near 10 is known to 1e-6, and so is its weight's ratio; on a GPU three TF32 products
# stand for one of float32, and leave out what is below 2^-21 of it.
FLOAT32 = {"cpu": 1e-5, "cuda": 5e-5}


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.context_mixing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "kernel_size", "batch", "groups", "width_of_head", "query_width", "layout"),
    [
        # Each variant's head widths, its maps scaled down: a window as large as the map, maps one
        # larger (distinct windows only at the border), and wider than a tile of 16 pixels.
        pytest.param(7, 7, 7, 1, 2, 14, 14, LAST, id="xt-one-window"),
        pytest.param(8, 7, 7, 1, 1, 16, 14, CONTIGUOUS, id="xt-two-windows"),
        pytest.param(14, 14, 13, 1, 1, 16, 16, LAST, id="t-four-windows"),
        pytest.param(13, 13, 13, 1, 1, 10, 10, CONTIGUOUS, id="s-one-window"),
        pytest.param(7, 8, 7, 1, 2, 8, 8, LAST, id="s-narrow-heads"),
        pytest.param(9, 19, 9, 1, 1, 16, 16, LAST, id="b-wide-map"),
        pytest.param(10, 7, 7, 1, 1, 3, 5, CONTIGUOUS, id="high-map"),
        pytest.param(7, 37, 7, 1, 1, 16, 16, CONTIGUOUS, id="three-tiles-wide"),
        pytest.param(5, 6, 5, 3, 1, 20, 18, LAST, id="equal-kernels-wide-heads"),
    ],
)
def test_kernel_equals_the_reference(
    kernel: Any,
    kernel_device: str,
    height: int,
    width: int,
    kernel_size: int,
    batch: int,
    groups: int,
    width_of_head: int,
    query_width: int,
    layout: torch.memory_format,
) -> None:
    problem = mixing_problem(
        height,
        width,
        kernel_size,
        batch=batch,
        groups=groups,
        channels_per_group=width_of_head,
        query_width=query_width,
        memory_format=layout,
    )
    result = kernel.context_mixing_triton(*_cast(problem, torch.float32, kernel_device))
    assert_close(result.cpu().double(), problem.by_reference(), rtol=0, atol=FLOAT32[kernel_device])


@pytest.mark.parametrize(
    ("height", "width", "small_kernel", "kernel_size"),
    [
        (9, 9, 7, 9),
        pytest.param(11, 12, 3, 11, marks=pytest.mark.slow),
        pytest.param(17, 17, 5, 17, marks=pytest.mark.slow),
        pytest.param(19, 20, 3, 19, marks=pytest.mark.slow),
    ],
)
def test_kernels_of_other_variants_are_the_references(
    kernel: Any, kernel_device: str, height: int, width: int, small_kernel: int, kernel_size: int
) -> None:
    problem = mixing_problem(
        height, width, kernel_size, groups=1, query_width=5, small_kernel=small_kernel
    )
    result = kernel.context_mixing_triton(*_cast(problem, torch.float32, kernel_device))
    assert_close(result.cpu().double(), problem.by_reference(), rtol=0, atol=FLOAT32[kernel_device])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("height", "width", "kernel_size", "layout"), [(7, 9, 7, LAST), (5, 18, 5, CONTIGUOUS)], ids=str
)
def test_short_dtypes_lose_only_their_rounding(
    kernel: Any,
    kernel_device: str,
    height: int,
    width: int,
    kernel_size: int,
    layout: torch.memory_format,
    dtype: torch.dtype,
) -> None:
    problem = mixing_problem(
        height,
        width,
        kernel_size,
        groups=1,
        channels_per_group=16,
        query_width=10,
        memory_format=layout,
    )
    arguments = _cast(problem, dtype, kernel_device)
    result = kernel.context_mixing_triton(*arguments)
    assert result.dtype == dtype
    exact = context_mixing(*(part.cpu().double() for part in arguments), implementation="tiles")
    # A weight and the result are rounded; together they stay below an eps of the largest value.
    rounding = torch.finfo(dtype).eps * arguments[0].abs().max().item()
    assert_close(result.cpu().double(), exact, rtol=0, atol=rounding)


@pytest.mark.parametrize("layout", [LAST, CONTIGUOUS], ids=str)
def test_result_keeps_the_memory_format(
    kernel: Any, kernel_device: str, layout: torch.memory_format
) -> None:
    arguments = _cast(
        mixing_problem(5, 7, 5, groups=1, memory_format=layout), torch.float32, kernel_device
    )
    result = kernel.context_mixing_triton(*arguments)
    assert result.stride() == arguments[0].stride()


@pytest.mark.slow
def test_arguments_may_be_views(kernel: Any, kernel_device: str) -> None:
    dense = _cast(mixing_problem(5, 8, 5, groups=1, batch=2), torch.float32, kernel_device)
    views = [torch.stack((part, part), dim=-1)[..., 0] for part in dense]
    assert not any(part.is_contiguous() for part in views)
    got = kernel.context_mixing_triton(*views)
    assert_close(got, kernel.context_mixing_triton(*dense), rtol=0, atol=0)


@pytest.mark.parametrize("position", range(5))
def test_inconsistent_shapes_are_refused(kernel: Any, kernel_device: str, position: int) -> None:
    arguments = list(_cast(mixing_problem(7, 8, 5), torch.float32, kernel_device))
    arguments[position] = arguments[position][:, :-1]
    with pytest.raises(ValueError, match="Inconsistent shapes for ContMix"):
        kernel.context_mixing_triton(*arguments)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    arguments = _cast(mixing_problem(5, 6, 5, groups=1), torch.float32, kernel_device)
    # Interpreted, a kernel needs real numbers; test_traced.py traces it without any.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    torch.library.opcheck(kernel.context_mixing_triton, arguments, test_utils=checks)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("height", "width", "kernel_size", "groups"),
    [(14, 14, 13, 8), (50, 68, 13, 8), (25, 34, 7, 16)],
)
def test_gpu_runs_the_networks_shapes(
    kernel: Any,
    kernel_device: str,
    height: int,
    width: int,
    kernel_size: int,
    groups: int,
    dtype: torch.dtype,
) -> None:
    if kernel_device != "cuda":
        pytest.skip("needs a CUDA device: the interpreter would take minutes")
    problem = mixing_problem(
        height,
        width,
        kernel_size,
        batch=2,
        groups=groups,
        channels_per_group=16,
        query_width=16,
        memory_format=LAST,
    )
    arguments = _cast(problem, dtype, kernel_device)
    exact = context_mixing(*(part.double() for part in arguments), implementation="tiles")
    rounding = torch.finfo(dtype).eps * arguments[0].abs().max().item()
    for order in triton_orders(dtype, kernel_size, width):
        torch._dynamo.reset()  # in one process it compiles a function for eight problems at most
        for operation in (context_mixing, torch.compile(context_mixing, fullgraph=True)):
            result = operation(*arguments, implementation=order)
            assert_close(result.double(), exact, rtol=0, atol=max(FLOAT32[kernel_device], rounding))


def _cast(problem: MixingProblem, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    return tuple(part.to(device, dtype) for part in problem.folded())
