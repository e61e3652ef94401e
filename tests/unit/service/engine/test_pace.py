from __future__ import annotations

import pytest

from service.engine.pace import MAX_SLOWDOWN, Pace


def run(pace: Pace, cycle_seconds: float, *, more_waits: bool = True) -> None:
    """Fifty batches that cost a second each, and begin at intervals."""
    for number in range(50):
        pace.begin(number * cycle_seconds, 1.0)
        pace.end(more_waits=more_waits)


def test_what_batches_take_beyond_their_cost_is_learnt() -> None:
    pace = Pace()
    run(pace, 1.2)
    assert pace.slowdown == pytest.approx(1.2, abs=0.01)
    run(pace, 1.0)
    assert pace.slowdown == pytest.approx(1.0, abs=0.01)


def test_a_device_that_waits_for_work_is_not_slow() -> None:
    pace = Pace()
    run(pace, 5.0, more_waits=False)
    assert pace.slowdown == 1.0


def test_a_pause_of_the_whole_machine_is_no_pace() -> None:
    pace = Pace()
    run(pace, 1000.0)
    assert pace.slowdown <= MAX_SLOWDOWN
