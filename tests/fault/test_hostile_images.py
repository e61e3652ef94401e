"""Damaged files, over HTTP; `make fuzz` sends ten thousand."""

from __future__ import annotations

from support.hostile_images import hostile_images
from support.hostile_requests import ROUND, attack
from support.running_service import RunningService


def test_damaged_images_give_an_answer_or_a_refusal_and_never_a_failure(
    faulty: RunningService,
) -> None:
    report = attack(faulty, hostile_images(seed=5), 2 * ROUND)
    assert {200, 415, 422} <= set(report.statuses) <= {200, 413, 415, 422}
    assert report.statuses.total() == 2 * ROUND
    assert report.slowest_seconds < 10  # milliseconds in truth, on a machine that is not busy
