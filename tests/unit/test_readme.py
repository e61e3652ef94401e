from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from service import metrics
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def setting_rows() -> list[str]:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return rows


def test_the_settings_table_is_the_settings() -> None:
    table = re.findall(rf"^\| `{PREFIX}.*$", README, re.MULTILINE)
    assert table == setting_rows()


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


def test_the_metrics_table_is_what_is_declared() -> None:
    _, _, section = README.partition("## Metrics\n")
    table, _, _ = section.partition("\n## ")
    assert re.findall(r"^\| `.*$", table, re.MULTILINE) == metric_rows()


def test_metrics_are_in_base_units() -> None:
    names = [row.split("`")[1] for row in metric_rows()]
    assert not [name for name in names if re.search(r"_(ms|milliseconds|mb|kb|percent)(_|$)", name)]


def test_the_demos_accuracy_is_what_was_measured() -> None:
    weights = ROOT / "model" / "demo" / "weights"
    top1 = json.loads((weights / "overlock_nano.json").read_text("utf-8"))["top1"]
    miou = json.loads((weights / "upernet_nano.json").read_text("utf-8"))["miou"]
    assert f"{100 * top1:.2f} % of 2,000 drawn scenes" in README
    assert f"{100 * miou:.2f} % on 2,000 drawn scenes" in README


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"serve", "test", "check", "bench", "train-demo"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)
