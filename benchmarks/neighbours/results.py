"""Results of the comparison: one JSON file with a section for each group, and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.neighbours.forms import (
    COMPARED,
    DTYPES,
    FINAL,
    GROUPS,
    SERVED,
    Contestant,
    Form,
    Measurement,
)
from benchmarks.neighbours.networks import NETWORKS, WITHOUT_A_LIBRARY, Network

RESULTS = Path(__file__).parents[1] / "results"
NAME = "neighbours-cpu"
"""Of the files, without another."""

EXPLANATION = f"""\
Random weights, 224x224. A group's contestants took turns, each in a process of its own; a turn is
one pass that is not timed and the median of three that are, and milliseconds are the median of the
turns. Error: the largest difference from the logits of the same network in eager PyTorch and
float32, over their largest; a form that is off by more than rounding ends the run.

- served: what our engine runs, with its kernels.
- eager, compiled: PyTorch 2.13, channels last; torch.compile for one input shape, with freezing.
  OverLoCK takes two to four minutes to compile for each dtype and input, and is slower then than
  served: `network-compiled-cpu.md` has it, by `benchmarks/network.py --forms compiled served`.
- openvino: the ONNX file in OpenVINO 2026.4.1, for one input shape, with the latency hint and the
  dtype as its inference precision. openvino-streams: the throughput hint, the batch shared evenly
  among its streams; one image cannot be shared.
- onnxruntime: the ONNX file in ONNX Runtime 1.32.0, all optimizations of the graph, for one batch
  size. It has no convolution in bfloat16 on x86
  (`mlas.enable_gemm_fastmath_arm64_bfloat16` is for ARM).

Ours are exported as `overlock export onnx` does. All processes keep the memory that they freed, as
an engine does. Accuracy is what the papers state, top-1 on ImageNet-1K; weights are random here.
Not tried: quantization to 8 bits, which changes the accuracy.

{WITHOUT_A_LIBRARY}"""


@dataclass(frozen=True)
class GroupResult:
    """What a group's turns gave.

    Attributes:
        group: a name of ``GROUPS``.
        command: that ran it.
        machine: facts about it at that time.
        gemm_gflop_per_second: of a matrix product in the same turns, by dtype.
        measurements: of the contestants.
    """

    group: str
    command: str
    machine: dict[str, str]
    gemm_gflop_per_second: dict[str, float]
    measurements: list[Measurement]

    def is_of_networks(self, batch: int) -> bool:
        """Return whether this is a network's own group, with this batch size."""
        group = GROUPS[self.group]
        return group.subject != FINAL and group.batch == batch


def load_results(name: str = NAME, folder: Path = RESULTS) -> dict[str, GroupResult]:
    """Return the results so far by group; empty if there are none."""
    path = folder / f"{name}.json"
    if not path.exists():
        return {}
    return {group: _group_result(each) for group, each in json.loads(path.read_text()).items()}


def _group_result(each: dict[str, Any]) -> GroupResult:
    rows = [
        Measurement(
            Contestant(row["contestant"]["network"], Form(**row["contestant"]["form"])),
            row["batch"],
            tuple(row["seconds"]),
            row["relative_error"],
        )
        for row in each["measurements"]
    ]
    return GroupResult(**{**each, "measurements": rows})


def save_results(
    results: Mapping[str, GroupResult], name: str = NAME, folder: Path = RESULTS
) -> None:
    """Write the JSON and the table, groups in the order of ``GROUPS``."""
    ordered = {group: results[group] for group in GROUPS if group in results}
    report = {group: asdict(result) for group, result in ordered.items()}
    (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / f"{name}.md").write_text(as_markdown(ordered, name))


def as_markdown(results: Mapping[str, GroupResult], name: str = NAME) -> str:
    """Write the tables for people: the final groups first.

    Args:
        results: by group.
        name: of the files, and so of the plot.
    """
    lines = ["# Served forms and other networks on the CPU", "", EXPLANATION, ""]
    finals = [result for group, result in results.items() if GROUPS[group].subject == FINAL]
    if finals:
        lines += [f"![Accuracy and images/s]({name}.png)", ""]
    for result in finals:
        lines += _final_table(result)
    lines += ["## All forms", ""]
    for group, result in results.items():
        if GROUPS[group].subject != FINAL:
            lines += _forms_table(result)
    return "\n".join(lines).rstrip() + "\n"


def _final_table(result: GroupResult) -> list[str]:
    lines = [
        f"## Every network in its fastest form, and ours as served, batch "
        f"{GROUPS[result.group].batch}",
        "",
        *_circumstances(result),
        "",
        "| network | top-1 | GMACs | bfloat16, images/s | form | float32, images/s | form | code |",
        "| --- | --: | --: | --: | --- | --: | --- | --- |",
    ]
    for name, network in NETWORKS.items():
        measured = [row for row in result.measurements if row.contestant.network == name]
        served = [row for row in measured if row.contestant.form.runtime == SERVED]
        others = [row for row in measured if row not in served]
        choices = [served, others] if served else [others]
        lines += [_final_row(network, rows) for rows in choices if rows]
    papers = {network.family: network.paper for network in NETWORKS.values()}
    sources = ", ".join(f"{family} {paper}" for family, paper in papers.items())
    return [*lines, "", f"Accuracy and GMACs: {sources}.", ""]


def _final_row(network: Network, rows: list[Measurement]) -> str:
    by_dtype = {row.contestant.form.dtype: row for row in rows}
    cells = [network.title, str(network.accuracy), str(network.gmacs)]
    for dtype in reversed(DTYPES):
        row = by_dtype.get(dtype)
        cells += [f"{row.images_per_second:.1f}", row.contestant.form.runtime] if row else ["", ""]
    return f"| {' | '.join([*cells, network.library])} |"


def _forms_table(result: GroupResult) -> list[str]:
    group = GROUPS[result.group]
    assert group.subject in COMPARED
    lines = [
        f"### {NETWORKS[group.subject].title}, batch {group.batch}",
        "",
        *_circumstances(result),
        "",
        "| form | dtype | ms | fastest and slowest turn | images/s | error |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for row in sorted(result.measurements, key=lambda row: row.median_seconds):
        form = row.contestant.form
        lines.append(
            f"| {form.runtime} | {form.dtype} | {row.median_seconds * 1e3:.1f} "
            f"| {min(row.seconds) * 1e3:.1f} to {max(row.seconds) * 1e3:.1f} "
            f"| {row.images_per_second:.1f} | {row.relative_error:.0e} |"
        )
    return [*lines, ""]


def _circumstances(result: GroupResult) -> list[str]:
    machine, gemm = result.machine, result.gemm_gflop_per_second
    rates = ", ".join(f"{rate:.0f} in {dtype}" for dtype, rate in gemm.items())
    turns = len(result.measurements[0].seconds)
    return [
        f"`{result.command}`: {machine['processor']}; {machine['vector instructions']}; "
        f"{machine['threads']} threads; {machine['versions']}; {turns} turns; load average "
        f"{machine['load average at the start']} at the start, "
        f"{machine['load average at the end']} at the end; matrix product GFLOP/s: {rates}."
    ]
