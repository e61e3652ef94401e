"""A section's rows and its end are messages, however it ends."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.on_gpu.bench import Bench, Row, Section
from benchmarks.on_gpu.worker import run_section
from support.failing_sections import SECTIONS

BENCH = Bench(torch.device("cpu"), quick=True)


def messages_of(section: Section, seconds: float = 60.0) -> tuple[bool, list[dict[str, Any]]]:
    messages: list[dict[str, Any]] = []
    passed = run_section(section, BENCH, time.monotonic() + seconds, messages.append)
    return passed, messages


def test_rows_are_rounded_and_followed_by_the_end() -> None:
    passed, messages = messages_of(SECTIONS["good"])
    assert passed
    assert messages == [
        {"row": {"model": "a", "ms": 1.235}},
        {"row": {"model": "b", "ms": None}},
        {"end": "complete"},
    ]


def test_a_failure_is_the_end_with_its_traceback() -> None:
    passed, messages = messages_of(SECTIONS["raising"])
    assert not passed
    assert messages[0] == {"row": {"model": "a"}}
    assert messages[1]["end"] == "failed: RuntimeError: no such kernel"
    assert 'raise RuntimeError("no such kernel")' in messages[1]["error"]


def test_a_row_that_waits_for_ever_is_aborted_when_the_budget_ends() -> None:
    passed, messages = messages_of(SECTIONS["waiting"], seconds=0.05)
    assert not passed
    assert messages[-1]["end"].startswith("failed: SectionOverdueError")


def test_no_row_begins_after_the_budget() -> None:
    def slow(_: Bench) -> Any:
        row: Row = {"number": 1}
        yield row
        raise AssertionError("another row began")

    passed, messages = messages_of(Section("slow", "Slow", 1, slow), seconds=0.0)
    assert passed or messages[-1]["end"].startswith("failed: SectionOverdueError")
    assert "another row began" not in str(messages)
