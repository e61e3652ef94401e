"""The report of a run: one file for programs, one for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.bench import Row


def write_report(report: dict[str, Any], output: Path) -> None:
    """Write ``output.json`` and ``output.md``, each atomically: an abort leaves no partial file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    _replace(output.with_suffix(".json"), json.dumps(report, indent=1, default=str) + "\n")
    _replace(output.with_suffix(".md"), as_markdown(report))


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def as_markdown(report: dict[str, Any]) -> str:
    """Write the tables for people."""
    lines = ["# Kernels and networks on a GPU", ""]
    lines += [f"- {fact}: {value}" for fact, value in report["facts"].items()]
    for name, entry in report["sections"].items():
        took = f"{entry['seconds']} s of {entry['of_seconds']:.0f}"
        lines += ["", f"## {entry['title']}", "", f"Section `{name}`: {entry['end']}, {took}.", ""]
        lines += _table(entry["rows"])
        if "error" in entry:
            lines += ["", "```", entry["error"].rstrip(), "```"]
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
