from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.serving.protocols_report import ProtocolLoad, ProtocolResults, Subject
from service.commands.bench.summary import RequestOutcome

OUTCOME = RequestOutcome(
    offered_per_second=100.0,
    answered_per_second=100.0,
    p50_seconds=0.01,
    p99_seconds=float("inf"),
    refused_fraction=0.0,
    failed_fraction=0.0,
    late_p99_seconds=0.0,
)

RATES = {
    (Subject("v1"), 1): (100.0, 50.0, 100.0),
    (Subject("v2"), 1): (96.0, 47.0, 96.0),
    (Subject("grpc"), 1): (50.0, 50.0, 50.0),
    (Subject("v2", 16), 1): (9.0, 9.0, 9.0),
    (Subject("v1"), 8): (100.0, 100.0, 100.0),
    (Subject("v2"), 8): (90.0, 90.0, 90.0),
    (Subject("v1"), 32): (100.0, 100.0, 100.0),
    (Subject("v2"), 32): (100.0, 100.0, 100.0),
    (Subject("v2", 16), 32): (6.0, 6.0, 6.0),
}
"""Requests a second of three turns."""


@pytest.fixture
def results() -> ProtocolResults:
    loads = [
        ProtocolLoad(subject, clients, turn, OUTCOME, subject.images * rate, 0.004, 0.0)
        for (subject, clients), rates in RATES.items()
        for turn, rate in enumerate(rates)
    ]
    return ProtocolResults("a command", "640x480", 3, loads, {"processor": "one"})


def test_goals_are_judged_by_ratios_within_turns(results: ProtocolResults) -> None:
    judged = [(goal.measured, goal.met) for goal in results.goals()]
    # Turn by turn /v2 makes 0.96, 0.94 and 0.96 of /v1; 16 images are 144 a second beside 96.
    assert judged == [
        ("0.96", True),
        ("0.90", False),
        ("1.00", True),
        ("1.50", True),
        ("0.96", False),
    ]


def test_a_protocol_that_answers_nothing_meets_no_goal(results: ProtocolResults) -> None:
    silent = [replace(each, images_per_second=0.0) for each in results.loads]
    assert not any(goal.met for goal in replace(results, loads=silent).goals())


def test_the_table_has_a_row_for_each_load(results: ProtocolResults) -> None:
    text = results.as_markdown()
    assert "| v2, 16 images | 1 | 9.0 | 144.0 | 1.44 | 10.0 |" in text
    assert text.count("\n| v") == len(RATES) - 1 + 5  # rows of loads, one of them gRPC's; goals


def test_the_file_has_null_for_a_latency_without_an_answer(results: ProtocolResults) -> None:
    document = json.loads(results.as_json())
    assert document["loads"][0]["outcome"]["p99_seconds"] is None
    assert document["loads"][0]["subject"] == {"protocol": "v1", "images": 1}
    assert len(document["goals"]) == 5
