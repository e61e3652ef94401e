"""Plot accuracy over images/s of the final groups; needs an environment with matplotlib.

benchmarks/serving/.venvs/plot/bin/python -m benchmarks.neighbours.plot [NAME]
"""

from __future__ import annotations

import sys
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]

from benchmarks.neighbours.forms import BATCHES, DTYPES, FINAL, SERVED, fastest
from benchmarks.neighbours.networks import NETWORKS
from benchmarks.neighbours.results import NAME, RESULTS, GroupResult, load_results

mpl.use("Agg")
from matplotlib import patheffects
from matplotlib import pyplot as plt

COLORS = {
    "OverLoCK": "#d62728",
    "OverLoCK, exported": "#ff9d4d",
    "ConvNeXt": "#1f77b4",
    "MogaNet": "#2ca02c",
}
"""Ours are drawn as served, and once more where the exported file is faster in another runtime."""

PLACES = {
    "OverLoCK": ((8, 5), "left"),
    "OverLoCK, exported": ((8, -11), "left"),
    "ConvNeXt": ((-6, -15), "right"),
    "MogaNet": ((-4, 7), "right"),
}
"""Of a name: points to the right of its network and above, and which side of it is there."""

Points = dict[str, tuple[float, float]]
"""Images/s, and top-1 in percent, by network."""


def main() -> None:
    """Draw a panel for each batch size whose final group has results."""
    name = (*sys.argv[1:], NAME)[0]
    results = load_results(name)
    batches = [batch for batch in BATCHES if f"{FINAL}:{batch}" in results]
    size = (5.5 * len(batches), 4.6)
    figure, grid = plt.subplots(1, len(batches), figsize=size, sharey=True, squeeze=False)
    panels = grid[0]
    for axes, batch in zip(panels, batches, strict=True):
        draw(axes, results[f"{FINAL}:{batch}"])
        axes.set_title(f"batch {batch}", fontsize=11)
        axes.set_xlabel("images/s on two cores")
        axes.grid(visible=True, which="both", alpha=0.2)
    panels[0].set_ylabel("ImageNet top-1 by the papers, %")
    filled = plt.Line2D([], [], marker="o", color="#555555", label="bfloat16")
    hollow = plt.Line2D([], [], marker="o", color="#555555", mfc="white", ls="", label="float32")
    figure.legend(handles=[filled, hollow], loc="lower center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(RESULTS / f"{name}.png", dpi=110)


def points_of(result: GroupResult, series: str, dtype: str) -> Points:
    """Return the networks of a series, from the least accurate."""
    best = set(fastest(result.measurements).values())
    points = {}
    for row in result.measurements:
        network, served = NETWORKS[row.contestant.network], row.contestant.form.runtime == SERVED
        if series == "OverLoCK":
            drawn = served
        elif series == "OverLoCK, exported":
            drawn = network.family == "OverLoCK" and row.contestant in best and not served
        else:
            drawn = network.family == series and row.contestant in best
        if drawn and row.contestant.form.dtype == dtype:
            points[row.contestant.network] = (row.images_per_second, network.accuracy)
    return dict(sorted(points.items(), key=lambda item: item[1][1]))


def draw(axes: Any, result: GroupResult) -> None:
    """Draw the points of each series, with lines and names for those in the fastest dtype."""
    axes.set_xscale("log")
    measured = {row.contestant.form.dtype for row in result.measurements}
    named = "bfloat16" if "bfloat16" in measured else "float32"
    for series, color in COLORS.items():
        for dtype in DTYPES:
            points = points_of(result, series, dtype)
            bfloat16 = dtype == "bfloat16"
            axes.plot(
                [rate for rate, _ in points.values()],
                [accuracy for _, accuracy in points.values()],
                color=color,
                marker="o",
                markerfacecolor=color if bfloat16 else "white",
                markersize=6 if bfloat16 else 5,
                linestyle="-" if dtype == named and not series.endswith("exported") else "",
            )
            for name, point in points.items():
                if dtype == named:
                    label(axes, series, name, point, color)
    axes.margins(x=0.2, y=0.14)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 1.35)  # room for the name of the fastest
    axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in (1, 2, 5, 10, 20, 50, 100, 200) if low < tick < high])


def label(axes: Any, series: str, name: str, point: tuple[float, float], color: str) -> None:
    """Write a network's name beside its point, where its family's line does not pass."""
    offset, side = PLACES[series]
    axes.annotate(
        "exported" if series.endswith("exported") else NETWORKS[name].title,
        point,
        xytext=offset,
        textcoords="offset points",
        ha=side,
        fontsize=9,
        color=color,
        path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
    )


if __name__ == "__main__":
    main()
