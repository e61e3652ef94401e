"""A tile runs where it was measured to be fastest, or is requested; elsewhere PyTorch does."""

from __future__ import annotations

import pytest
import torch

from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.selection import few_parts, map_problem, rows_problem, selected

MAP = torch.empty(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
PROBLEM = map_problem("op", MAP)


@pytest.fixture
def _as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.kernels.gpu.selection.triton_unsupported_reason", lambda *_: None)


def test_a_problem_distinguishes_one_image_from_several() -> None:
    several, more, one = (map_problem("op", MAP[:1].expand(n, -1, -1, -1)) for n in (2, 3, 1))
    assert several == more != one


def test_a_tile_is_refused_on_a_cpu_with_the_reason() -> None:
    with pytest.raises(ValueError, match="The Triton kernel of op was requested, but "):
        selected("few", PROBLEM, (MAP,), MAP)


def test_the_table_is_not_consulted_where_only_pytorch_runs() -> None:
    autotuner = Autotuner()
    with autotuner.collect_problems() as problems:
        assert selected(autotuner, PROBLEM, (MAP,), MAP) == "plain"
    assert problems == []


@pytest.mark.usefixtures("_as_if_on_a_gpu")
def test_other_layouts_run_on_pytorch() -> None:
    autotuner = Autotuner()
    with autotuner.collect_problems() as problems:
        assert selected(autotuner, PROBLEM, (MAP,), MAP.contiguous()) == "plain"
    assert problems == []
    with pytest.raises(ValueError, match="not in the channels_last memory format"):
        selected("few", PROBLEM, (MAP,), MAP.contiguous())


@pytest.mark.usefixtures("_as_if_on_a_gpu")
def test_the_fastest_of_the_table_runs() -> None:
    autotuner = Autotuner()
    assert selected(autotuner, PROBLEM, (MAP,), MAP) == "plain"
    autotuner.measure(PROBLEM, {"many": object}, lambda _: 1.0)
    assert selected(autotuner, PROBLEM, (MAP,), MAP) == "many"


def test_a_problem_of_rows_knows_whose_sums_it_has() -> None:
    rows, weight, sums = torch.empty(2, 6, 8), torch.empty(1, 6, 8), torch.empty(2, 3, 8)
    own, of_map, of_weight = (
        rows_problem("op", *each) for each in ((rows, rows), (rows, sums), (weight, sums))
    )
    assert len({own, of_map, of_weight}) == 3
    # The number of parts depends on the tile before, which is measured at the same time.
    assert rows_problem("op", rows, sums[:, :1]) == of_map
    assert rows_problem("op", weight, sums[:1]) != of_weight


def test_large_partial_sums_are_added_up_by_a_launch_of_their_own() -> None:
    assert few_parts(torch.empty(9, 196, 256, dtype=torch.bfloat16))
    assert not few_parts(torch.empty(9, 196, 256))
