from __future__ import annotations

import pytest

from benchmarks.serving.grpc_idle import CLIENTS, Grpc, IdleLoad, as_markdown, judge
from service.commands.bench.summary import RequestOutcome

SECONDS: dict[Grpc, tuple[float, ...]] = {
    "off": (0.010, 0.020, 0.010),
    "on, idle": (0.0101, 0.0202, 0.0110),
}
"""Latencies of three turns; in the second the machine was slow for both."""


@pytest.fixture
def loads() -> list[IdleLoad]:
    return [
        IdleLoad(grpc, clients, turn, RequestOutcome(100.0, 100.0, p50, 2 * p50, 0.0, 0.0, 0.0))
        for grpc, latencies in SECONDS.items()
        for turn, p50 in enumerate(latencies)
        for clients in CLIENTS
    ]


def test_latencies_are_compared_within_a_turn(loads: list[IdleLoad]) -> None:
    assert [(goal.measured, goal.met) for goal in judge(loads)] == 4 * [("1.010", True)]


def test_the_report_shows_both_services_for_each_number_of_clients(loads: list[IdleLoad]) -> None:
    text = as_markdown("a command", {"processor": "one"}, loads, judge(loads))
    assert "| off | 1 | 100.0 | 10.00 | 20.00 | 0.0% |" in text
    assert "| on, idle | 8 | 100.0 | 11.00 | 22.00 | 0.0% |" in text
