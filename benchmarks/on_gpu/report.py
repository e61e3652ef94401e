"""Runs the sections, each for its time, and keeps what they measured in files."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.bench import Bench, Row, Section, stopwatch

ALL_SECONDS = 460.0
"""No row begins after so long: what has begun then ends within eight minutes."""


def run_sections(
    sections: Sequence[Section],
    bench: Bench,
    facts: dict[str, str],
    output: Path,
    all_seconds: float = ALL_SECONDS,
) -> dict[str, Any]:
    """Run the sections in order and write the report after every row.

    A section that fails is reported with its error, and the next one runs.
    """
    elapsed = stopwatch()
    report: dict[str, Any] = {"facts": facts, "sections": {}}
    for section in sections:
        entry: dict[str, Any] = {"title": section.title, "rows": [], "end": "running"}
        report["sections"][section.name] = entry
        own = stopwatch()
        entry["end"] = _run(section, bench, entry, report, output, own, elapsed, all_seconds)
        entry["seconds"] = round(own(), 1)
        print(f"{section.name}: {entry['end']}, {entry['seconds']} s", flush=True)
        _write(report, output)
        bench.forget_memory()
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
    if elapsed() > all_seconds:
        return "not begun: the time was up"
    try:
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


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _write(report: dict[str, Any], output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(as_markdown(report))


def as_markdown(report: dict[str, Any]) -> str:
    """Write the tables for people."""
    lines = ["# Kernels and networks on a GPU", ""]
    lines += [f"- {fact}: {value}" for fact, value in report["facts"].items()]
    for name, entry in report["sections"].items():
        took = f", {entry['seconds']} s" if "seconds" in entry else ""
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
    return f"{value:,.4g}" if isinstance(value, float) else str(value).replace("|", "/")
