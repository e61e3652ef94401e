"""Damaged calls of the Open Inference Protocol, over HTTP; `make fuzz` sends ten thousand."""

from __future__ import annotations

from support.hostile_calls import hostile_calls
from support.hostile_requests import ROUND, attack
from support.running_service import RunningService


def test_damaged_calls_give_an_answer_or_a_refusal_and_never_a_failure(
    faulty: RunningService,
) -> None:
    report = attack(faulty, hostile_calls(seed=5), ROUND)
    assert not report.failed
    assert {200, 400, 404, 415, 422} <= set(report.statuses) <= {200, 400, 404, 413, 415, 422, 431}
    assert report.statuses.total() == ROUND
