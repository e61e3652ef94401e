from __future__ import annotations

import json
import re

import pytest

from support.documents import ROOT, text_of

README = text_of("README.md")
RESULTS = ROOT / "benchmarks" / "results"
INPUTS = {"1 image": "1x224x224", "8 images": "8x224x224"}


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 250


def test_the_contents_list_every_section() -> None:
    (contents,) = re.findall(r"^\*\*Contents:\*\*.*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert re.findall(r"\[([^]]+)\]\(#", contents) == re.findall(r"^## (.+)$", README, re.MULTILINE)


def test_the_demos_accuracy_is_what_was_measured() -> None:
    weights = ROOT / "model" / "demo" / "weights"
    top1 = json.loads((weights / "overlock_nano.json").read_text("utf-8"))["top1"]
    miou = json.loads((weights / "upernet_nano.json").read_text("utf-8"))["miou"]
    assert f"{100 * top1:.2f} % of 2,000 drawn scenes" in README
    assert f"{100 * miou:.2f} % on 2,000 drawn scenes" in README


def speed_rows(device: str) -> list[list[str]]:
    rows = [line.strip("| ").split("|") for line in README.splitlines() if f"| {device} |" in line]
    return [[cell.strip() for cell in row] for row in rows]


def test_the_speed_on_a_cpu_is_what_was_measured() -> None:
    measured = {}
    for file in ("network-cpu.json", "network-dense-cpu.json"):
        for each in json.loads((RESULTS / file).read_text("utf-8"))["measurements"]:
            measured[each["workload"], each["input"], each["form"], each["dtype"]] = each
    rows = speed_rows("2 CPU cores")
    assert len(rows) == 6
    for name, _, shown, *cells in rows:
        size = INPUTS.get(shown, f"1x{shown}")
        forms = ("authors", "float32"), ("served", "float32"), ("served", "bfloat16")
        authors, *served = [measured[name.strip("`"), size, *form] for form in forms]
        expected = [f"{1000 * authors['median_seconds']:.0f} ms"]
        for each in served:
            expected += [f"{1000 * each['median_seconds']:.0f} ms", f"{each['speedup']:.1f}x"]
        assert cells == expected


def test_the_speed_on_a_gpu_is_what_was_measured() -> None:
    sections = json.loads((RESULTS / "gpu.json").read_text("utf-8"))["sections"]
    (authors,) = [
        row["eager ms"]
        for row in sections["classifiers"]["rows"]
        if row["form"] == "authors in float32"
    ]
    (served,) = [row["ms"] for row in sections["compiled"]["rows"] if row["batch"] == 64]
    ((*_, shown_authors, _, _, shown, ratio),) = speed_rows("NVIDIA H200")
    assert [shown_authors, shown] == [f"{authors:.1f} ms", f"{served:.1f} ms"]
    assert float(ratio.strip("x")) == pytest.approx(authors / served, abs=0.05)


def test_every_make_target_that_is_named_exists() -> None:
    makefile = text_of("Makefile")
    named = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"serve", "test", "check", "bench", "train-demo"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)
