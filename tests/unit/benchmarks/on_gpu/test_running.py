"""A section that fails or hangs costs the report nothing but its own rows and budget."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.on_gpu import running
from benchmarks.on_gpu.bench import Bench, Section
from benchmarks.on_gpu.running import Message, Worker, WorkerProcess, run_sections
from support.failing_sections import SECTIONS, two_rows

ROOT = Path(__file__).parents[4]
ROW: Message = {"row": {"model": "a"}}
COMPLETE: Message = {"end": "complete"}
FAILED: Message = {"end": "failed: RuntimeError: no such kernel", "error": "Traceback"}


class FakeWorkers:
    """Processes that play a script, on a clock that only they advance."""

    def __init__(self, script: dict[str, Sequence[Message | float]]) -> None:
        self.script = script
        self.now_seconds = 1000.0
        self.events: list[str] = []
        self.until_seconds: dict[str, float] = {}
        self.releases: dict[str, bool] = {}
        self._left: list[Message | float] = []

    def launch(self) -> Worker:
        self.events.append("launch")
        return self

    def begin(self, section: Section, until_seconds: float, *, release: bool) -> None:
        self.events.append(section.name)
        self.until_seconds[section.name] = until_seconds - self.now_seconds
        self.releases[section.name] = release
        self._left = list(self.script.get(section.name, [ROW, COMPLETE]))

    def message(self, until_seconds: float) -> Message | None:
        while self._left:
            first = self._left.pop(0)
            if isinstance(first, dict):
                return first
            if self.now_seconds + first > until_seconds:
                self.now_seconds = until_seconds
                return None
            self.now_seconds += first
        self.now_seconds = until_seconds
        return None

    def end(self) -> None:
        self.events.append("end")

    def run(self, *sections: Section, run_seconds: float = 330.0) -> tuple[bool, dict[str, Any]]:
        report: dict[str, Any] = {"sections": {}}
        passed = run_sections(
            sections, self.launch, report, lambda: None, run_seconds, lambda: self.now_seconds
        )
        return passed, report["sections"]


def section(name: str, seconds: float = 10.0, **properties: Any) -> Section:
    return Section(name, name.title(), seconds, two_rows, **properties)


def test_sections_share_a_process_while_nothing_fails() -> None:
    workers = FakeWorkers({})
    passed, found = workers.run(section("first"), section("second"))
    assert passed
    assert workers.events == ["launch", "first", "second", "end"]
    assert [entry["end"] for entry in found.values()] == ["complete", "complete"]
    assert [entry["rows"] for entry in found.values()] == [[{"model": "a"}]] * 2


def test_after_a_failure_the_next_section_has_a_new_process() -> None:
    workers = FakeWorkers({"first": [ROW, FAILED]})
    passed, found = workers.run(section("first"), section("second"))
    assert passed
    assert workers.events == ["launch", "first", "end", "launch", "second", "end"]
    assert found["first"]["rows"] == [{"model": "a"}]
    assert (found["first"]["end"], found["first"]["error"]) == (FAILED["end"], "Traceback")
    assert found["second"]["end"] == "complete"


def test_a_gate_that_fails_ends_everything() -> None:
    workers = FakeWorkers({"gate": [ROW, FAILED]})
    passed, found = workers.run(section("gate", is_gate=True), section("second"))
    assert not passed
    assert list(found) == ["gate"]


def test_a_section_that_hangs_costs_its_budget_alone() -> None:
    workers = FakeWorkers({"hanging": [ROW, 1e9]})
    _, found = workers.run(section("hanging", seconds=20), section("second"))
    assert found["hanging"]["end"] == "failed: it hung, and its process was killed"
    assert found["hanging"]["seconds"] == 20 + running.KILL_SECONDS
    assert workers.events == ["launch", "hanging", "end", "launch", "second", "end"]
    assert workers.until_seconds["second"] == 10


def test_nothing_runs_past_the_end_of_a_run_and_its_last_duty_has_its_time() -> None:
    workers = FakeWorkers({name: [ROW, 1e9] for name in ("first", "second", "third")})
    start = workers.now_seconds
    sections = [section(name, seconds=20) for name in ("first", "second", "third")]
    duty = section("duty", seconds=10, is_last_duty=True)
    _, found = workers.run(*sections, duty, run_seconds=50)
    assert workers.until_seconds["second"] == 50 - 10 - 25  # less the last duty's and the first's
    assert found["third"]["end"] == "not begun: the time was up"
    assert (found["duty"]["end"], workers.until_seconds["duty"]) == ("complete", 10)
    assert workers.now_seconds - start <= 50


def test_a_section_with_its_own_process_shares_it_with_none() -> None:
    workers = FakeWorkers({})
    workers.run(section("first"), section("own", own_process=True), section("last"))
    assert " ".join(workers.events) == "launch first end launch own end launch last end"


def test_what_sections_share_is_released_behind_the_last_of_them() -> None:
    def release() -> None: ...

    workers = FakeWorkers({})
    shared = [section("first", release=release), section("last", release=release)]
    workers.run(*shared, section("other"))
    assert workers.releases["first"] is False
    assert workers.releases["last"] is True


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_real_processes_end_when_a_section_raises_or_hangs(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": path}
    bench = Bench(torch.device("cpu"), True, tmp_path)

    def launch() -> Worker:
        return WorkerProcess(bench, environment, "support.failing_sections")

    sections = [SECTIONS[name] for name in ("good", "hanging", "raising")]
    report: dict[str, Any] = {"sections": {}}
    start = time.monotonic()
    assert run_sections(sections, launch, report, lambda: None, 100)
    ends = {name: entry["end"] for name, entry in report["sections"].items()}
    assert ends["raising"] == "failed: RuntimeError: no such kernel"
    assert "no such kernel" in report["sections"]["raising"]["error"]
    # It prints its stacks and exits by itself; if it could not, it would be killed.
    assert ends["hanging"] == "failed: its process ended; standard error says more"
    assert report["sections"]["hanging"]["rows"] == [{"model": "a"}]
    assert ends["good"] == "complete"
    assert time.monotonic() - start < 100


def test_a_gate_that_runs_out_of_time_between_rows_ends_nothing() -> None:
    workers = FakeWorkers({"gate": [ROW, {"end": "stopped: its time was up"}]})
    passed, found = workers.run(replace(section("gate"), is_gate=True), section("second"))
    assert passed
    assert found["second"]["end"] == "complete"
