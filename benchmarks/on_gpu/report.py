"""Run the sections, each for its time, and write their rows to files."""

from __future__ import annotations

import json
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.on_gpu.bench import Bench, Row, Section, stopwatch

ALL_SECONDS = 460.0
"""Seconds after which no row begins."""

LAST_ROW_SECONDS = 20.0
"""Seconds past that after which the running row is aborted: all ends within eight minutes."""

OVERDUE_SECONDS = 60.0
"""Seconds past its section's time after which a row is aborted, so that other sections run."""


REMINDER_SECONDS = 30.0
"""Seconds after which a row is aborted once more, since Python drops what is raised in a finalizer.
A server that a section has started stops within that time."""


class SectionOverdueError(Exception):
    """A row took far longer than its section may."""


def run_sections(
    sections: Sequence[Section],
    bench: Bench,
    facts: dict[str, str],
    output: Path,
    all_seconds: float = ALL_SECONDS,
) -> dict[str, Any]:
    """Run the sections in order and write the report after every row.

    A section that fails is reported with its error, and the next one runs. The last one may take
    all the time that is left.
    """
    elapsed = stopwatch()
    report: dict[str, Any] = {"facts": facts, "sections": {}}
    for place, section in enumerate(sections):
        if place == len(sections) - 1:
            left_seconds = all_seconds - elapsed()
            section = replace(section, seconds=max(section.seconds, left_seconds))
        entry: dict[str, Any] = {"title": section.title, "rows": [], "end": "running"}
        entry["of_seconds"] = round(section.seconds)
        report["sections"][section.name] = entry
        own = stopwatch()
        entry["end"] = _run(section, bench, entry, report, output, own, elapsed, all_seconds)
        entry["seconds"] = round(own(), 1)
        print(
            f"{section.name}: {entry['end']}, {entry['seconds']} s of {section.seconds:.0f}",
            flush=True,
        )
        _write(report, output)
        _tidy_up(section, sections[place + 1 :], bench)
    return report


def _run(
    section: Section,
    bench: Bench,
    entry: dict[str, Any],
    report: dict[str, Any],
    output: Path,
    own: Any,
    elapsed: Any,
    all_seconds: float,
) -> str:
    left_seconds = all_seconds - elapsed()
    if left_seconds < 0:
        return "not begun: the time was up"
    patience_seconds = min(section.seconds + OVERDUE_SECONDS, left_seconds + LAST_ROW_SECONDS)
    try:
        with _aborted_after(patience_seconds):
            for row in section.rows(bench):
                entry["rows"].append({name: _rounded(value) for name, value in row.items()})
                print(f"  {section.name}: {entry['rows'][-1]}", flush=True)
                _write(report, output)
                if own() > section.seconds or elapsed() > all_seconds:
                    return "stopped: its time was up"
    except Exception as error:  # noqa: BLE001 - whatever fails, the other sections are to run
        traceback.print_exc()
        entry["error"] = "".join(traceback.format_exception(error))[-3000:]
        return f"failed: {type(error).__name__}: {str(error).strip()[:300]}"
    return "complete"


@contextmanager
def _aborted_after(seconds: float) -> Iterator[None]:
    """Raise ``SectionOverdueError`` in a block that runs longer, once Python code runs again.

    A call that waits for a hanging device never returns to Python; the program has its own limit.
    """

    def abort(_signal: int, _frame: FrameType | None) -> None:
        raise SectionOverdueError(f"not done after {seconds:.0f} s")

    handler = signal.signal(signal.SIGALRM, abort)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, REMINDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


def _tidy_up(section: Section, later: Sequence[Section], bench: Bench) -> None:
    """Release what a section shares, unless a later section uses it."""
    try:
        if section.release is not None and all(each.release != section.release for each in later):
            section.release()
        bench.forget_memory()
    except RuntimeError:  # after some errors a device answers nothing any more
        traceback.print_exc()


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _write(report: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    _replace(output.with_suffix(".json"), json.dumps(report, indent=1, default=str) + "\n")
    _replace(output.with_suffix(".md"), as_markdown(report))


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically, so that an aborted program leaves no partial file."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def as_markdown(report: dict[str, Any]) -> str:
    """Write the tables for people."""
    lines = ["# Kernels and networks on a GPU", ""]
    lines += [f"- {fact}: {value}" for fact, value in report["facts"].items()]
    for name, entry in report["sections"].items():
        took = f", {entry['seconds']} s of {entry['of_seconds']}" if "seconds" in entry else ""
        lines += ["", f"## {entry['title']}", "", f"Section `{name}`: {entry['end']}{took}.", ""]
        lines += _table(entry["rows"])
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: list[Row]) -> list[str]:
    if not rows:
        return []
    columns = list(dict.fromkeys(column for row in rows for column in row))
    body = [[_cell(row.get(column)) for column in columns] for row in rows]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *body)]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "/")
