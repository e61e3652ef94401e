"""Alerts fire on their fault, stay quiet otherwise, and lead to the runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from support.alert_cases import CASES, Case
from support.manifest_cluster_checks import complaints_about
from support.manifests import ROOT

RULES_FILE = ROOT / "docker" / "prometheus" / "alerts.yml"
RUNBOOK = ROOT / "docs" / "deploying.md"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
NAMES: list[str] = [rule["alert"] for rule in RULES]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (of Debian's prometheus)"
)


def promtool(*arguments: str) -> str:
    """Return promtool's complaints; empty if it has none."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def verdict_on(cases: list[Case], folder: Path) -> str:
    """Return promtool's complaints about alerts that should fire and do not, or the reverse."""
    document = {
        "rule_files": [str(RULES_FILE)],
        "evaluation_interval": "1m",
        "tests": [as_test(case) for case in cases],
    }
    path = folder / "cases.yml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return promtool("test", "rules", str(path))


def as_test(case: Case) -> dict[str, Any]:
    fired = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{case.minute}m",
        "exp_samples": [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in case.fires],
    }
    return {
        "name": case.what,
        "interval": "1m",
        "input_series": [{"series": name, "values": v} for name, v in case.series.items()],
        "promql_expr_test": [fired],
    }


@pytest.mark.slow
@needs_promtool
def test_each_fault_raises_its_alerts_and_no_others(tmp_path: Path) -> None:
    assert verdict_on(CASES, tmp_path) == ""


@pytest.mark.slow
@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_the_cases_would_show_another_alert(case: Case, tmp_path: Path) -> None:
    other = next(name for name in NAMES if name not in case.fires)
    assert other in verdict_on([replace(case, fires=case.fires | {other})], tmp_path)


def test_every_alert_is_raised_by_a_case() -> None:
    assert set(NAMES) == set().union(*(case.fires for case in CASES))


@pytest.mark.parametrize("series", sorted({name for case in CASES for name in case.series}))
def test_the_cases_series_are_ones_that_there_are(series: str) -> None:
    assert [*complaints_about(series)] == []


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    assert [*complaints_about(rule["expr"])] == []


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_what_how_bad_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    address = urlsplit(rule["annotations"]["runbook_url"])
    assert (address.scheme, address.hostname) == ("https", "git.example.com")
    assert address.path.endswith(f"/{RUNBOOK.relative_to(ROOT)}")
    assert address.fragment == rule["alert"].lower()


def test_the_runbook_has_a_section_for_each_alert_and_no_others() -> None:
    headings = re.findall(r"^#+ (Overlock[A-Z]\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert headings == NAMES


@needs_promtool
def test_promtool_finds_nothing_wrong() -> None:
    assert promtool("check", "rules", "--lint-fatal", str(RULES_FILE)) == ""
