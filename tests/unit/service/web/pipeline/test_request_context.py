from __future__ import annotations

from contextlib import ExitStack

import pytest

from service.web.pipeline.request_context import (
    HEADROOM,
    DecodeWaitEstimator,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_foreseen_before_anything_was_decoded() -> None:
    line = DecodeWaitEstimator(Clock())
    with line.waiting():
        assert line.wait_seconds == 0.0


def test_the_wait_is_the_length_times_the_pace() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    for _ in range(3):
        clock.now += 5  # idle between them: that is no pace
        with line.waiting():
            clock.now += 0.02
    assert line.wait_seconds == 0.0
    with line.waiting(), line.waiting(), line.waiting():
        assert line.wait_seconds == pytest.approx(3 * 0.02 * HEADROOM)


def test_a_busy_line_moves_as_fast_as_its_threads_together() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    for _ in range(40):  # two at a time, 20 ms each
        with ExitStack() as first, ExitStack() as second:
            first.enter_context(line.waiting())
            second.enter_context(line.waiting())
            clock.now += 0.02
    with line.waiting():
        assert line.wait_seconds == pytest.approx(0.01 * HEADROOM, rel=0.15)


def test_a_line_that_gets_slower_is_noticed() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    for seconds in [0.01] * 20 + [0.1] * 30:
        with line.waiting():
            clock.now += seconds
    with line.waiting():
        assert line.wait_seconds == pytest.approx(0.1 * HEADROOM, rel=0.1)


def test_who_leaves_early_counts_no_more_and_teaches_nothing() -> None:
    clock = Clock()
    line = DecodeWaitEstimator(clock)
    with line.waiting():
        clock.now += 0.02

    def leave_early() -> None:
        with line.waiting():
            clock.now += 30
            raise TimeoutError

    with pytest.raises(TimeoutError):
        leave_early()
    assert line.wait_seconds == 0.0
    with line.waiting():
        assert line.wait_seconds == pytest.approx(0.02 * HEADROOM)
