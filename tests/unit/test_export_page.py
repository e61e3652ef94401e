"""docs/export.md shows what was measured, and what a file says."""

from __future__ import annotations

import json
import re

from model.export.comparison import TOLERANCE
from model.export.metadata import metadata_of
from model.export.program import INPUT_NAME, OUTPUT_NAME
from model.zoo import load_model
from support.documents import ROOT, text_of

PAGE = text_of("docs/export.md")
RESULTS = ROOT / "benchmarks" / "results" / "export-cpu.json"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_the_table_is_what_was_measured() -> None:
    rows = json.loads(RESULTS.read_text("utf-8"))["rows"]
    measured = [
        [
            row["form"],
            row["input"],
            f"{row['median_seconds'] * 1e3:.0f} ms",
            f"{row['speedup']:.1f}x",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
        ]
        for row in rows
    ]
    shown = [cells(line) for line in PAGE.splitlines() if re.search(r"\d ms \|", line)]
    assert shown == measured


def test_every_entry_of_the_metadata_is_described() -> None:
    loaded = load_model("demo", weights="demo")
    described = [
        name
        for line in PAGE.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", cells(line)[0])
    ]
    assert described == list(metadata_of("demo", loaded, "softmax", (224, 224)))


def test_the_names_and_the_limit_are_those_of_the_code() -> None:
    assert f"`{INPUT_NAME}`" in PAGE
    assert f"`{OUTPUT_NAME}`" in PAGE
    assert f"limit: {TOLERANCE:.0e}" in PAGE
