"""The dashboard's ConfigMap is the file that Compose shows, as Grafana's sidecar finds it."""

from __future__ import annotations

from support.manifest_schemas import validate
from support.manifests import ROOT, objects

DASHBOARD = ROOT / "docker/grafana/dashboards/overlock.json"
MOST_BYTES = 256 * 1024
"""Of the annotation in which ``kubectl apply`` keeps an object."""


def test_it_is_the_file_that_compose_shows() -> None:
    (made,) = objects("dashboard")
    validate(made, "1.37")
    assert made["data"] == {DASHBOARD.name: DASHBOARD.read_text("utf-8")}
    assert made["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert DASHBOARD.stat().st_size < MOST_BYTES


def test_a_changed_dashboard_takes_the_place_of_the_one_before() -> None:
    (made,) = objects("dashboard")
    assert made["metadata"]["name"] == "overlock-dashboard"


def test_no_other_copy_lies_in_the_tree() -> None:
    found = [path.name for path in (ROOT / "k8s").rglob("*.json")]
    assert found == ["values.schema.json"]  # the chart's
