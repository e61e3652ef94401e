"""A symbolic batch size stays one through every operator: one graph serves all batch sizes.

An operator that turns it into a number, as ``len`` does, costs a compilation for every batch size.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pkgutil import iter_modules
from typing import Any

import pytest
import torch
from torch import SymInt, Tensor
from torch._library.custom_ops import CustomOpDef
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from model.kernels.gpu.depthwise_layout import lay_out
from support.mixing_problem import mixing_problem

PACKAGE = "model.kernels.gpu"
BATCH = 8
LAST = torch.channels_last


class NoLaunch:
    """A fake ``wrap_triton``: an operator's own arithmetic runs, its kernel does not."""

    def __init__(self, kernel: object) -> None:
        """Take the kernel and leave it."""

    def __getitem__(self, grid: tuple[int | SymInt, ...]) -> Callable[..., None]:
        assert any(isinstance(axis, SymInt) for axis in grid), "the batch became a number"
        return lambda *_, **__: None


def features(channels: int, dtype: torch.dtype) -> Tensor:
    return torch.zeros(BATCH, channels, 14, 14, dtype=dtype).contiguous(memory_format=LAST)


def mixing() -> tuple[Any, ...]:
    problem = mixing_problem(14, 14, 7, batch=BATCH, dtype=torch.bfloat16, memory_format=LAST)
    return problem.folded()


def depthwise(dtype: torch.dtype, tile: str) -> tuple[Any, ...]:
    weight = torch.zeros(32, 1, 7, 7, dtype=dtype)
    return features(32, dtype), lay_out(weight), torch.zeros(32, dtype=dtype), True, tile


def paired() -> tuple[Any, ...]:
    weight = torch.zeros(32, 1, 7, 7, dtype=torch.bfloat16)
    return features(32, weight.dtype), weight, weight[:, 0, 0, 0], True, "many_paired"


def excitation() -> tuple[Any, ...]:
    matrix, bias, rows = torch.zeros(16, 64), torch.zeros(64), torch.zeros(BATCH, 49, 64)
    return rows, None, 49, matrix, bias[:16], matrix, bias, rows, "many"


def response() -> tuple[Any, ...]:
    gamma = torch.zeros(64)
    return torch.zeros(1, 16, 64), torch.zeros(BATCH, 4, 64), gamma, gamma, "many"


def activation() -> tuple[Any, ...]:
    bias = torch.zeros(32)
    return features(32, torch.bfloat16), bias, torch.zeros(9, 32), bias, "many"


def normalisation() -> tuple[Any, ...]:
    bias = torch.zeros(32)
    context = features(8, torch.bfloat16)
    vectors = (bias,) * 5
    return features(32, torch.bfloat16), torch.zeros(9, 32), *vectors, context, bias[:8], "many"


OPERATORS: dict[str, tuple[str, Callable[[], tuple[Any, ...]]]] = {
    "activated_depthwise_triton": ("activated_depthwise", activation),
    "context_mixing_triton": ("context_mixing", mixing),
    "depthwise_gelu_triton": (
        "activated_depthwise",
        lambda: (*(activation()[i] for i in (0, 2, 3)), "many"),
    ),
    "depthwise_matrix_triton": ("depthwise_16bit", lambda: depthwise(torch.bfloat16, "many")),
    "depthwise_paired_triton": ("depthwise_paired", paired),
    "large_depthwise_triton": ("depthwise_float32", lambda: depthwise(torch.float32, "large")),
    "position_norm_triton": ("position_norm", normalisation),
    "response_norm_triton": ("response_norm", response),
    "squeeze_excite_triton": ("squeeze_excite", excitation),
}

ONE_IMAGE = {"label_map_triton", "nms_triton", "roi_align_triton"}
"""Operators behind the compiled part, which see one image at a time: they have no batch size."""


def test_every_operator_is_looked_at() -> None:
    pytest.importorskip("triton", reason="Triton is not installed: there are no operators")
    folder = importlib.import_module(PACKAGE).__path__
    modules = [importlib.import_module(f"{PACKAGE}.{each.name}") for each in iter_modules(folder)]
    found = {
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, CustomOpDef)
    }
    assert found == {*OPERATORS, *ONE_IMAGE}


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_symbolic_batch_size_stays_symbolic(
    monkeypatch: pytest.MonkeyPatch, operator: str
) -> None:
    pytest.importorskip("triton", reason="Triton is not installed: there are no operators")
    module_name, arguments_of = OPERATORS[operator]
    module = importlib.import_module(f"{PACKAGE}.{module_name}")
    monkeypatch.setattr(module, "wrap_triton", NoLaunch)
    arguments, shape_env = arguments_of(), ShapeEnv()
    with FakeTensorMode(shape_env=shape_env) as mode:

        def symbolic(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            batched = value.shape[0] == BATCH
            kinds = [DimDynamic.DYNAMIC if batched else DimDynamic.STATIC]
            kinds += [DimDynamic.STATIC] * (value.ndim - 1)
            context: StatelessSymbolicContext[Any, Any] = StatelessSymbolicContext(
                dynamic_sizes=kinds
            )
            return mode.from_tensor(value, symbolic_context=context)

        result = getattr(module, operator)(*map(symbolic, arguments))
    for tensor in result if isinstance(result, tuple) else (result,):
        assert isinstance(tensor.shape[0], SymInt)
    # Batches of several tensors are made equal to each other, none to a number.
    assert not any(value.is_number for value in shape_env.replacements.values())
