"""Groups are measured by several commands, and one file has all of their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.neighbours.forms import COMPARED, DTYPES, Contestant, Form, Measurement
from benchmarks.neighbours.results import (
    GroupResult,
    as_markdown,
    load_results,
    save_results,
)

MACHINE = {
    "processor": "a processor",
    "vector instructions": "avx2",
    "threads": "2",
    "versions": "Python",
    "load average at the start": "0 0 0",
    "load average at the end": "1 1 1",
}


def result(group: str, rows: list[Measurement]) -> GroupResult:
    return GroupResult(group, f"command of {group}", MACHINE, {"float32": 400.0}, rows)


def row(network: str, runtime: str, dtype: str, *seconds: float) -> Measurement:
    return Measurement(Contestant(network, Form(runtime, dtype)), 8, seconds, 2e-6)


@pytest.fixture
def forms() -> GroupResult:
    return result(
        "convnext_t:8",
        [
            row("convnext_t", "eager", "float32", 0.5, 0.4, 0.6),
            row("convnext_t", "openvino", "bfloat16", 0.1, 0.3, 0.2),
        ],
    )


def test_results_are_read_as_they_were_written(tmp_path: Path, forms: GroupResult) -> None:
    save_results({"convnext_t:8": forms}, folder=tmp_path)
    assert load_results(folder=tmp_path) == {"convnext_t:8": forms}


def test_there_are_no_results_at_first(tmp_path: Path) -> None:
    assert load_results(folder=tmp_path) == {}


def test_a_group_that_is_measured_again_replaces_its_own_results(
    tmp_path: Path, forms: GroupResult
) -> None:
    other = result("overlock_t:1", [row("overlock_t", "served", "bfloat16", 0.03)])
    save_results({"convnext_t:8": forms, "overlock_t:1": other}, folder=tmp_path)
    again = result("convnext_t:8", [row("convnext_t", "eager", "float32", 0.7)])
    save_results(load_results(folder=tmp_path) | {"convnext_t:8": again}, folder=tmp_path)
    assert load_results(folder=tmp_path) == {"overlock_t:1": other, "convnext_t:8": again}
    assert list(load_results(folder=tmp_path)) == ["overlock_t:1", "convnext_t:8"]


def test_the_forms_of_a_network_are_listed_from_the_fastest(forms: GroupResult) -> None:
    lines = as_markdown({"convnext_t:8": forms}).splitlines()
    table = [line for line in lines if line.startswith("| openvino |") or "| eager |" in line]
    assert table == [
        "| openvino | bfloat16 | 200.0 | 100.0 to 300.0 | 40.0 | 2e-06 |",
        "| eager | float32 | 500.0 | 400.0 to 600.0 | 16.0 | 2e-06 |",
    ]


def test_the_final_table_names_each_networks_form_and_ours_as_served_too() -> None:
    rows = [
        row(network, runtime, dtype, seconds)
        for network in COMPARED
        for dtype, seconds in zip(DTYPES, (0.4, 0.2), strict=True)
        for runtime in ("openvino",)
    ]
    rows += [row("overlock_t", "served", dtype, 0.1) for dtype in DTYPES]
    text = as_markdown({"best:8": result("best:8", rows)})
    assert "| OverLoCK-T | 84.2 | 5.6 | 80.0 | served | 80.0 | served | overlock-service |" in text
    assert "| OverLoCK-T | 84.2 | 5.6 | 40.0 | openvino | 20.0 | openvino | overlock" in text
    assert "| ConvNeXt-B | 83.8 | 15.4 | 40.0 | openvino | 20.0 | openvino | transformers" in text
    assert "OverLoCK-S" not in text  # nothing was measured of it


@pytest.mark.parametrize(
    ("group", "batch", "own"),
    [
        ("convnext_t:8", 8, True),
        ("convnext_t:8", 1, False),
        ("best:8", 8, False),
    ],
)
def test_the_final_groups_choose_by_the_networks_own_groups(
    group: str, batch: int, own: bool
) -> None:
    assert result(group, []).is_of_networks(batch) == own
