from __future__ import annotations

import pytest

from benchmarks.on_gpu.sections import RUN_SECONDS, RUNS, SECTIONS


@pytest.mark.parametrize("run", RUNS)
def test_the_budgets_of_a_run_fit_into_its_time(run: str) -> None:
    assert sum(section.seconds for section in RUNS[run]) <= RUN_SECONDS


@pytest.mark.parametrize("run", RUNS)
def test_what_shares_a_network_comes_together(run: str) -> None:
    """It is released after the last of them, before other sections report their memory."""
    sharing = [place for place, section in enumerate(RUNS[run]) if section.release is not None]
    assert sharing == list(range(sharing[0], sharing[-1] + 1))


def test_the_first_look_comes_first_and_ends_the_program() -> None:
    first, *others = RUNS["A"]
    assert (first.name, first.is_gate) == ("smoke", True)
    assert not any(section.is_gate for section in others)


@pytest.mark.parametrize("run", RUNS)
def test_packing_the_caches_comes_last_and_its_time_is_kept_free(run: str) -> None:
    assert [section.name for section in RUNS[run] if section.is_last_duty] == ["caches"]
    assert RUNS[run][-1].name == "caches"


def test_every_section_is_found_by_name() -> None:
    assert set(SECTIONS) == {section.name for run in RUNS.values() for section in run}
