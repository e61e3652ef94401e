"""A problem of ContMix becomes candidates that can be timed, and the table chooses the fastest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.kernels import context_mixing as dispatch
from model.kernels.context_mixing import context_mixing, mixing_problem
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.mixing_candidates import mixing_candidates
from model.kernels.gpu.mixing_orders import triton_orders
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

    monkeypatch.setattr(dispatch, "triton_unsupported_reason", lambda *_: None)
    monkeypatch.setattr(dispatch, "context_mixing_triton", mixed, raising=False)
    autotuner = Autotuner()
    with autotuner.collect_problems() as collected:
        context_mixing(*arguments(), implementation=autotuner)
    autotuner.measure(collected[0], {"triton_at_once": list, "triton": dict}, lambda _: 1.0)
    context_mixing(*arguments(), implementation=autotuner)
    assert requested == ["triton", "triton_at_once"]
    with pytest.raises(ValueError, match=r"'triton_at_once' is not an order for torch\.float32"):
        context_mixing(*arguments(torch.float32), implementation="triton_at_once")


def test_the_table_is_not_consulted_where_only_the_tiles_run() -> None:
    autotuner = Autotuner()
    with autotuner.collect_problems() as collected:
        context_mixing(*arguments(), implementation=autotuner)
    assert collected == []
