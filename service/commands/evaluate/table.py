"""A report as text: the measured metrics beside those of the paper."""

from __future__ import annotations

from model.evaluation.report import EvaluationReport

TITLES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
} | {
    f"{of}_ap{suffix}": f"{of} AP{title}"
    for of in ("box", "mask")
    for suffix, title in (
        ("", ""),
        ("50", "50"),
        ("75", "75"),
        ("_small", "s"),
        ("_medium", "m"),
        ("_large", "l"),
    )
}
"""Names of the metrics in the table."""

KINDS = {"ema": ", EMA", "raw": ", raw"}


def as_text(report: EvaluationReport) -> str:
    """Return the heading, the table in percent, and notes on it."""
    lines = [_heading(report), "", *_table(report)]
    notes = _notes(report)
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _heading(report: EvaluationReport) -> str:
    digest = f", SHA-256 {report.digest[:12]}" if report.digest else ""
    kind = "" if report.weights in {"demo", "random"} else KINDS[report.weights_kind]
    part = "" if report.items == report.data_items else f"{report.items} of "
    data = "drawn scenes" if report.data == "demo" else f"images of {report.data}"
    return (
        f"{report.model} ({report.weights} weights{kind}{digest})\n"
        f"on {part}{report.data_items} {data}\n"
        f"{report.settings['dtype']} on {report.device}, {report.seconds:.0f} s\n"
        f"{_input(report)}"
    )


def _input(report: EvaluationReport) -> str:
    """Return two lines: the geometry, then mean and deviation, each value with its source."""
    shown = {
        name: f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value} "
        f"({report.input_from[name]})"
        for name, value in report.input.items()
    }
    statistics = [shown.pop(name) for name in ("mean", "std")]
    return f"{', '.join(shown.values())}\n{', '.join(statistics)}"


def _table(report: EvaluationReport) -> list[str]:
    columns = report.published or {}
    header = ["percent", "measured"]
    for title in columns:
        header += [title, "difference"]
    rows = [header]
    for name, value in report.metrics.items():
        row = [TITLES[name], _number(value)]
        for published in columns.values():
            expected = published.get(name)
            comparison = None if value is None or expected is None else value - expected
            row += [
                "" if expected is None else f"{expected:.1f}",
                "" if comparison is None else f"{comparison:+.2f}",
            ]
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _notes(report: EvaluationReport) -> list[str]:
    notes = []
    if report.weights == "random":
        notes.append("Random weights: these numbers say nothing about the network.")
    if report.weights == "demo":
        notes.append("Demo weights, not the paper's: they were trained on drawn shapes alone.")
    if report.published and report.items < report.data_items:
        notes.append("The paper's number is for the whole data set, this one for a part.")
    return notes


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
