"""A problem of ContMix becomes candidates that can be timed, and the table chooses the fastest."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from model.kernels import context_mixing as dispatch
from model.kernels.context_mixing import context_mixing, mixing_problem
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.mixing_candidates import mixing_candidates
from model.kernels.gpu.mixing_orders import TRITON_ORDERS, triton_orders
from model.kernels.gpu.tuning import tune
from model.lowering.gpu import lower_for_gpu
from model.lowering.gpu_context_mixing import GpuContextMixing
from model.zoo import create_model
from support import mixing_problem as problems


def arguments(dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
    return tuple(part.to(dtype) for part in problems.mixing_problem(7, 8, 7, batch=2).folded())


def test_candidates_solve_the_problem() -> None:
    values, queries, _, small_bias, large_bias = arguments()
    problem = mixing_problem(values, queries, small_bias, large_bias)
    candidates = mixing_candidates(problem, 3)
    assert [*candidates] == ["tiles"]  # a CPU has no other
    solution = candidates["tiles"]()
    assert isinstance(solution, Tensor)
    assert (solution.shape, solution.dtype) == ((3, *values.shape[1:]), values.dtype)


def test_orders_are_those_of_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "model.kernels.gpu.mixing_candidates.triton_unsupported_reason", lambda *_: None
    )
    for dtype in (torch.bfloat16, torch.float32):
        values, queries, _, small_bias, large_bias = arguments(dtype)
        problem = mixing_problem(values, queries, small_bias, large_bias)
        assert [*mixing_candidates(problem, 1)] == [*triton_orders(dtype, 7, 8)]


def test_the_fastest_order_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    def mixed(values: Tensor, *others: Any) -> Tensor:
        requested.append(others[-1])
        return values

    for module in ("context_mixing", "gpu.mixing_candidates"):
        name = f"model.kernels.{module}.triton_unsupported_reason"
        monkeypatch.setattr(name, lambda *_: None)
    monkeypatch.setattr(dispatch, "context_mixing_triton", mixed, raising=False)
    autotuner = Autotuner()
    run = partial(context_mixing, *arguments(), implementation=autotuner)
    seconds = iter([3e-6, 2e-6, 1e-6])
    (decision,) = tune(run, autotuner, 2, lambda _: next(seconds))
    assert [*decision.seconds] == [*TRITON_ORDERS]
    run()
    assert requested == ["triton", "triton_at_once"]
    with pytest.raises(ValueError, match=r"'triton_at_once' is not an order for torch\.float32"):
        context_mixing(*arguments(torch.float32), implementation="triton_at_once")


def test_a_network_on_a_gpu_consults_the_table() -> None:
    network, autotuner = create_model("demo", weights="random"), Autotuner()
    lower_for_gpu(network, autotuner)
    mixings = [part for part in network.modules() if isinstance(part, GpuContextMixing)]
    assert mixings
    assert all(part.autotuner is autotuner for part in mixings)


def test_the_table_is_not_consulted_where_only_the_tiles_run() -> None:
    autotuner = Autotuner()
    with autotuner.collect_problems() as collected:
        context_mixing(*arguments(), implementation=autotuner)
    assert collected == []
