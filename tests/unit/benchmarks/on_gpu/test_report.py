"""A section that fails or takes too long costs the report nothing but its own rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.on_gpu import report
from benchmarks.on_gpu.bench import Bench, Row, Section
from benchmarks.on_gpu.report import run_sections

BENCH = Bench(torch.device("cpu"), quick=True)


class FakeWatch:
    """Counts the seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now_seconds = 0.0

    def __call__(self) -> Callable[[], float]:
        start = self.now_seconds
        return lambda: self.now_seconds - start


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> FakeWatch:
    fake = FakeWatch()
    monkeypatch.setattr(report, "stopwatch", fake)
    return fake


def section(name: str, rows: Callable[[Bench], Iterator[Row]], seconds: float = 10) -> Section:
    return Section(name, name.title(), seconds, rows)


def two_rows(_: Bench) -> Iterator[Row]:
    yield {"model": "a", "ms": 1.23456789}
    yield {"model": "b", "ms": None}


def test_every_row_is_in_both_files(tmp_path: Path) -> None:
    output = tmp_path / "results" / "gpu"
    run_sections([section("times", two_rows)], BENCH, {"command": "python"}, output)
    written = json.loads(output.with_suffix(".json").read_text())
    assert written["facts"] == {"command": "python"}
    assert written["sections"]["times"]["rows"] == [
        {"model": "a", "ms": 1.235},
        {"model": "b", "ms": None},
    ]
    assert written["sections"]["times"]["end"] == "complete"
    lines = output.with_suffix(".md").read_text().splitlines()
    assert "- command: python" in lines
    assert lines[-4:] == ["| model | ms |", "| --- | --- |", "| a | 1.235 |", "| b |  |"]


def test_failure_is_reported_and_the_next_section_runs(tmp_path: Path) -> None:
    def failing(_: Bench) -> Iterator[Row]:
        yield {"model": "a"}
        raise RuntimeError("no such kernel")

    sections = [section("first", failing), section("second", two_rows)]
    found = run_sections(sections, BENCH, {}, tmp_path / "gpu")["sections"]
    assert found["first"]["rows"] == [{"model": "a"}]
    assert found["first"]["end"] == "failed: RuntimeError: no such kernel"
    assert "no such kernel" in found["first"]["error"]
    assert found["second"]["end"] == "complete"


def test_a_row_is_on_disk_before_the_next_one_is_measured(tmp_path: Path) -> None:
    seen: list[Any] = []

    def looking(_: Bench) -> Iterator[Row]:
        yield {"model": "a"}
        seen.append(json.loads((tmp_path / "gpu.json").read_text())["sections"]["look"]["rows"])

    run_sections([section("look", looking)], BENCH, {}, tmp_path / "gpu")
    assert seen == [[{"model": "a"}]]


def test_section_gets_no_row_after_its_time(tmp_path: Path, watch: FakeWatch) -> None:
    def slow(_: Bench) -> Iterator[Row]:
        for number in range(100):
            watch.now_seconds += 4
            yield {"number": number}

    sections = [section("slow", slow), section("next", two_rows)]
    found = run_sections(sections, BENCH, {}, tmp_path / "gpu")["sections"]
    assert [row["number"] for row in found["slow"]["rows"]] == [0, 1, 2]  # at 4, 8 and 12 seconds
    assert found["slow"]["end"] == "stopped: its time was up"
    assert found["next"]["end"] == "complete"


def test_last_section_takes_the_time_that_is_left(tmp_path: Path, watch: FakeWatch) -> None:
    def slow(_: Bench) -> Iterator[Row]:
        for number in range(5):
            watch.now_seconds += 4
            yield {"number": number}

    sections = [section("slow", slow), section("last", slow)]
    found = run_sections(sections, BENCH, {}, tmp_path / "gpu")["sections"]
    assert found["slow"]["end"] == "stopped: its time was up"
    assert (found["last"]["end"], found["last"]["of_seconds"]) == ("complete", 448)  # of 460


def test_nothing_begins_when_all_time_is_up(tmp_path: Path, watch: FakeWatch) -> None:
    def endless(_: Bench) -> Iterator[Row]:
        watch.now_seconds += report.ALL_SECONDS + 1
        yield {"model": "a"}

    sections = [section("endless", endless, seconds=1e9), section("next", two_rows)]
    found = run_sections(sections, BENCH, {}, tmp_path / "gpu")["sections"]
    assert found["endless"]["end"] == "stopped: its time was up"
    assert found["next"]["end"] == "not begun: the time was up"
    assert found["next"]["rows"] == []


def test_a_row_that_waits_for_ever_is_given_up_and_the_next_section_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "OVERDUE_SECONDS", 0.02)

    def waiting(_: Bench) -> Iterator[Row]:
        yield {"model": "a"}
        threading.Event().wait()

    sections = [section("waiting", waiting, seconds=0.03), section("next", two_rows)]
    found = run_sections(sections, BENCH, {}, tmp_path / "gpu")["sections"]
    assert found["waiting"]["rows"] == [{"model": "a"}]
    assert found["waiting"]["end"] == "failed: SectionOverdueError: not done after 0 s"
    assert found["next"]["end"] == "complete"


def test_a_device_that_answers_no_more_does_not_keep_the_next_section_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_: Bench) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Bench, "forget_memory", lost)
    sections = [section("first", two_rows), section("second", two_rows)]
    found = run_sections(sections, BENCH, {}, tmp_path / "gpu")["sections"]
    assert [entry["end"] for entry in found.values()] == ["complete", "complete"]


def test_a_value_that_json_does_not_know_spoils_no_report(tmp_path: Path) -> None:
    def odd(_: Bench) -> Iterator[Row]:
        yield {"size": torch.Size([2, 3]), "dtype": torch.float32}

    found = run_sections([section("odd", odd)], BENCH, {}, tmp_path / "gpu")["sections"]
    assert found["odd"]["end"] == "complete"
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["sections"]["odd"]["rows"] == [{"size": [2, 3], "dtype": "torch.float32"}]


def test_what_sections_share_is_released_behind_the_last_of_them(tmp_path: Path) -> None:
    happened: list[str] = []

    def noting(name: str) -> Section:
        def rows(_: Bench) -> Iterator[Row]:
            happened.append(name)
            yield {"model": name}

        return section(name, rows)

    def release() -> None:
        happened.append("let go")

    sections = [noting("first"), noting("between"), noting("last"), noting("other")]
    sections[0] = replace(sections[0], release=release)
    sections[2] = replace(sections[2], release=release)
    run_sections(sections, BENCH, {}, tmp_path / "gpu")
    assert happened == ["first", "between", "last", "let go", "other"]
