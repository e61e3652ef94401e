"""A tile of ContMix with one softmax for all tap rows gives what the reference gives."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from model.kernels.context_mixing import context_mixing
from support.mixing_problem import mixing_problem

LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format

# H, W, K and B: one window side by side and two; the small kernel, 5, then has one to six, and
# gathers from three on.
SIZES = [(7, 7, 7, 1), (5, 6, 5, 2), (9, 10, 9, 1), (6, 5, 5, 1)]
# As in test_context_mixing.py.
FLOAT32 = {"cpu": 1e-5, "cuda": 5e-5}


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.context_mixing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        *((sizes, torch.bfloat16) for sizes in SIZES),
        (SIZES[1], torch.float16),
        (SIZES[1], torch.float32),
    ],
    ids=str,
)
def test_kernel_equals_the_reference(
    kernel: Any, kernel_device: str, sizes: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    height, width, kernel_size, batch = sizes
    problem = mixing_problem(
        height,
        width,
        kernel_size,
        batch=batch,
        groups=1,
        channels_per_group=14,
        query_width=10,
        memory_format=CONTIGUOUS if width % 2 else LAST,
    )
    arguments = tuple(part.to(kernel_device, dtype) for part in problem.folded())
    result = kernel.context_mixing_triton(*arguments, "triton_at_once")
    assert (result.dtype, result.stride()) == (dtype, arguments[0].stride())
    exact = context_mixing(*(part.cpu().double() for part in arguments), implementation="tiles")
    # A weight and the result are rounded; together they stay below an eps of the largest value.
    rounding = torch.finfo(dtype).eps * arguments[0].abs().max().item()
    bound = FLOAT32[kernel_device] if dtype == torch.float32 else rounding
    assert_close(result.cpu().double(), exact, rtol=0, atol=bound)
