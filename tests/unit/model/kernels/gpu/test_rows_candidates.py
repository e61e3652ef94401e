"""Candidates of the operations that scale rows solve its problem; a GPU has the tiles too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.kernels.gpu.rows_candidates import rows_candidates
from model.kernels.gpu.selection import TILES, rows_problem

OPERATIONS = ("response_norm", "squeeze_excite")
KINDS = ("map", "weight", "own sums")


def problem_of(operation: str, kind: str) -> tuple[object, ...]:
    rows = torch.empty(1 if kind == "weight" else 2, 6, 24, dtype=torch.bfloat16)
    partial = rows if kind == "own sums" else torch.empty(2, 3, 24)
    problem = rows_problem(operation, rows, partial)
    assert kind in problem
    return problem


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_plain_candidate_scales_the_rows_of_each_image(operation: str, kind: str) -> None:
    state = torch.get_rng_state()
    candidates = rows_candidates(problem_of(operation, kind), 3)
    assert [*candidates] == ["plain"]  # a CPU has no other
    solution: Any = candidates["plain"]()
    assert (solution.shape, solution.dtype) == ((3, 6, 24), torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_measures_every_tile(
    monkeypatch: pytest.MonkeyPatch, operation: str, kind: str
) -> None:
    for module in ("rows_candidates", "selection"):
        monkeypatch.setattr(
            f"model.kernels.gpu.{module}.triton_unsupported_reason", lambda *_: None
        )
    requested = []

    def note(*arguments: Any) -> Any:
        requested.append((arguments[-1], arguments[1] is None))
        return arguments[0]

    monkeypatch.setattr(f"model.kernels.{operation}.{operation}_triton", note, raising=False)
    candidates = rows_candidates(problem_of(operation, kind), 3)
    assert [*candidates] == ["plain", *TILES]
    for tile in TILES:
        candidates[tile]()
    assert requested == [(tile, kind == "own sums") for tile in TILES]
