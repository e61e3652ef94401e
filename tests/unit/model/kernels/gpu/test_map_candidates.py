"""Candidates of the operations on a map solve its problem; a GPU has the kernel's tiles too."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.kernels.gpu.map_candidates import map_candidates
from model.kernels.gpu.selection import TILES, map_problem

OPERATIONS = ("activated_depthwise", "depthwise_gelu", "position_norm")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_plain_candidate_computes_results_of_the_problems_size(operation: str) -> None:
    features = torch.empty(2, 5, 9, 8, dtype=torch.bfloat16)
    state = torch.get_rng_state()
    candidates = map_candidates(map_problem(operation, features), 3)
    assert [*candidates] == ["plain"]  # a CPU has no other
    solution: Any = candidates["plain"]()
    for result in solution if isinstance(solution, tuple) else (solution,):
        assert result.shape in ((3, 5, 9, 8), (3, 9, 8, 5), (3, 5))  # a map, pixels or sums
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_gpu_measures_every_tile(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    for module in ("map_candidates", "selection"):
        monkeypatch.setattr(
            f"model.kernels.gpu.{module}.triton_unsupported_reason", lambda *_: None
        )
    requested = []

    def note(*arguments: Any) -> Any:
        requested.append(arguments[-1])
        return arguments[:2]

    module = "position_norm" if operation == "position_norm" else "activated_depthwise"
    monkeypatch.setattr(f"model.kernels.{module}.{operation}_triton", note, raising=False)
    candidates = map_candidates(map_problem(operation, torch.empty(1, 5, 4, 4)), 1)
    assert [*candidates] == ["plain", *TILES]
    for tile in TILES:
        candidates[tile]()
    assert requested == [*TILES]
