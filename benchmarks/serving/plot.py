"""Plot latency over offered load, from the JSON of a run; needs an environment with matplotlib.

python -m benchmarks.serving.plot results.json plot.png
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]

mpl.use("Agg")
from matplotlib import pyplot as plt

COLORS = {
    "overlock-service": "#d62728",
    "Mosec": "#1f77b4",
    "LitServe": "#9467bd",
    "BentoML": "#8c6d31",
    "Ray Serve": "#2ca02c",
    "ideal": "#777777",
}
PERCENTILES = {"p50_seconds": "p50", "p99_seconds": "p99"}
Curve = list[tuple[float, float]]


def main() -> None:
    """Draw a row for each workload, a column for each percentile."""
    source, target = map(Path, sys.argv[1:])
    results = json.loads(source.read_text())
    workloads = list(results["decode_seconds"])
    figure, grid = plt.subplots(
        len(workloads), 2, figsize=(11, 4.2 * len(workloads)), squeeze=False, sharey="row"
    )
    for row, workload in zip(grid, workloads, strict=True):
        for axes, (field, name) in zip(row, PERCENTILES.items(), strict=True):
            for contestant, curve in curves(results, workload, field).items():
                draw(axes, contestant, curve)
            axes.set_yscale("log")
            axes.set_title(f"{name}, images of {workload}", fontsize=10)
            axes.set_xlabel("offered load, requests/s")
            axes.grid(visible=True, which="both", alpha=0.25)
        row[0].set_ylabel("latency from the scheduled arrival, ms")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.suptitle("One core for the server, a device of 5 ms + 0.5 ms n, batches up to 16")
    figure.tight_layout(rect=(0, 0.05, 1, 0.98))
    figure.savefig(target, dpi=110)


def curves(results: dict[str, Any], workload: str, field: str) -> dict[str, Curve]:
    """Return milliseconds over offered requests a second by contestant; medians over repeats."""
    repeats: dict[tuple[str, float], list[float]] = defaultdict(list)
    for each in results["curves"]:
        if each["workload"] == workload and each["loop"] == "open":
            seconds = each["outcome"][field]
            repeats[each["contestant"], each["level"]].append(
                float("inf") if seconds is None else seconds
            )
    for ideal in results["ideals"]:
        if ideal["workload"] == workload and ideal["loop"] == "open":
            repeats["ideal", ideal["level"]].append(ideal[field])
    found: dict[str, Curve] = defaultdict(list)
    for (contestant, level), seconds_list in sorted(repeats.items()):
        if (middle := median(seconds_list)) < float("inf"):
            found[contestant].append((level, 1000 * middle))
    return {name: found[name] for name in COLORS if name in found}


def draw(axes: Any, contestant: str, curve: Curve) -> None:
    """Draw one line."""
    ideal = contestant == "ideal"
    axes.plot(
        [level for level, _ in curve],
        [milliseconds for _, milliseconds in curve],
        label=contestant,
        color=COLORS[contestant],
        linestyle="--" if ideal else "-",
        marker="" if ideal else "o",
        markersize=4,
        linewidth=2.4 if contestant == "overlock-service" else 1.4,
    )


if __name__ == "__main__":
    main()
