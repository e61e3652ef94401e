"""docs/observability.md lists every metric."""

from __future__ import annotations

import re

from prometheus_client import Counter, Gauge, Histogram

from service import metrics
from support.documents import text_of


def metric_rows() -> list[str]:
    declared = [
        each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram)
    ]
    rows = []
    for metric in declared:
        (family,) = metric.describe()
        # Counters are described without the suffix with which they are exported.
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(metric._labelnames)
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return rows


def test_the_table_is_what_is_declared() -> None:
    _, _, section = text_of("docs/observability.md").partition("## Metrics\n")
    table, _, _ = section.partition("\n## ")
    assert re.findall(r"^\| `.*$", table, re.MULTILINE) == metric_rows()


def test_metrics_are_in_base_units() -> None:
    names = [row.split("`")[1] for row in metric_rows()]
    assert not [name for name in names if re.search(r"_(ms|milliseconds|mb|kb|percent)(_|$)", name)]
