from __future__ import annotations

import pytest

from benchmarks.serving.overload import AFTER_SECONDS, recovery_seconds
from service.commands.bench.generator import Sample

END, NORMAL = 10.0, 0.05


def samples(slow_until: float, status: int = 200) -> list[Sample]:
    """One request every 50 ms; until a moment they take a second or have another status."""
    moments = [END + 0.05 * place for place in range(100)]
    return [
        Sample(moment, moment, 1.0 if status == 200 else 0.01, status)
        if moment < slow_until
        else Sample(moment, moment, 0.02, 200)
        for moment in moments
    ]


def test_who_was_never_slow_has_recovered_at_once() -> None:
    assert recovery_seconds(samples(END), END, NORMAL) == 0.0


def test_recovery_lasts_until_a_slow_window_is_over() -> None:
    assert recovery_seconds(samples(END + 1.0), END, NORMAL) == pytest.approx(1.0)


def test_refusals_after_the_end_are_no_recovery() -> None:
    assert recovery_seconds(samples(END + 0.3, status=429), END, NORMAL) == pytest.approx(0.5)


def test_the_overload_itself_does_not_count() -> None:
    before = [Sample(END - 0.1, END - 0.1, 5.0, 200)]
    assert recovery_seconds([*before, *samples(END)], END, NORMAL) == 0.0


def test_a_burst_long_after_it_does_not_count() -> None:
    late = [Sample(END + 3, END + 3, 1.0, 200)] * 9
    assert recovery_seconds([*samples(END + 1.0), *late], END, NORMAL) == pytest.approx(1.0)


def test_half_a_second_without_trouble_is_no_recovery_yet() -> None:
    again = [Sample(END + 1.6, END + 1.6, 1.0, 200)] * 9
    assert recovery_seconds([*samples(END + 1.0), *again], END, NORMAL) == pytest.approx(1.75)


def test_who_never_recovers_has_not_when_the_run_ends() -> None:
    slow = [Sample(END + 0.1 * place, 0.0, 1.0, 200) for place in range(120)]
    assert recovery_seconds(slow, END, NORMAL) == AFTER_SECONDS
