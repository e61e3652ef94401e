"""The dashboard queries metrics and labels that exist, and its panels do not overlap."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram

from service import metrics
from support.compose import DASHBOARD, panels

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in panels()
    for target in panel["targets"]
]
OF_PROMETHEUS = {"instance", "le"}


def exported() -> dict[str, set[str]]:
    """Return the labels of every series that the service exports, by its name."""
    series = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            for suffix in suffixes.get(family.type, [""]):
                series[family.name + suffix] = {*metric._labelnames}
    return series


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_series_and_labels_that_there_are(expression: str) -> None:
    names = set(re.findall(r"\boverlock_\w+", expression))
    assert names
    assert names <= exported().keys()
    labels = set().union(*(exported()[name] for name in names)) | OF_PROMETHEUS
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    matched = re.findall(r"(\w+)(?:=~|=|!=|!~)\"", expression)
    assert {*", ".join(grouped).split(", "), *matched} - {""} <= labels


def test_every_metric_is_on_the_dashboard() -> None:
    shown = set(
        re.findall(r"\boverlock_\w+", " ".join(str(each.values[0]) for each in EXPRESSIONS))
    )
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported()}
    assert {family for family in families if not any(n.startswith(family) for n in shown)} == set()


def test_panels_have_their_own_ids_and_descriptions_and_names() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))
    assert all(panel["description"] for panel in panels())


def test_panels_lie_beside_and_not_on_each_other() -> None:
    def covered(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        columns, rows = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        return {*itertools.product(columns, rows)}

    for one, other in itertools.combinations(BOARD["panels"], 2):
        assert not covered(one) & covered(other), (one["title"], other["title"])


def test_rows_are_the_questions_of_an_operator() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Traffic",
        "Latency by stage",
        "Batching",
        "Queue and pending work",
        "Errors and rejections",
        "Engines",
    ]


def test_legends_name_labels_that_the_expression_keeps() -> None:
    for panel in panels():
        for target in panel["targets"]:
            kept = ", ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in kept, panel["title"]


def test_every_query_goes_to_the_chosen_data_source() -> None:
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
    assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource", "instance"]
