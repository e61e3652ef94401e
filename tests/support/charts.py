"""Releases of the Helm chart, rendered by Helm's own SDK in an environment of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from support.client_environments import client_environment, run_client
from support.manifests import K8S, ROOT, Manifests, Object, objects

CHART = K8S / "helm"
SCRIPTS = ROOT / "tests/unit/k8s/chart"

OF_HELM = {
    *("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version"),
    *("app.kubernetes.io/managed-by", "helm.sh/chart"),
}
"""Labels that Helm recommends for every object; kustomize gives some of them to some objects."""

Values = dict[str, Any]


class ChartError(Exception):
    """Helm's complaint about values, or about the chart."""


@dataclass(frozen=True)
class ChartRelease:
    """What ``helm install`` would send.

    Attributes:
        objects: from all templates.
        notes: what Helm prints at the end.
    """

    objects: list[Object]
    notes: str

    @property
    def manifests(self) -> Manifests:
        """The objects and their namespace, which a chart leaves to ``--create-namespace``."""
        (namespace,) = (each for each in objects("cpu") if each["kind"] == "Namespace")
        namespace["metadata"]["name"] = self.objects[0]["metadata"]["namespace"]
        return Manifests([namespace, *self.objects])


def release(
    values: Values, name: str = "overlock", namespace: str = "overlock", chart: Path = CHART
) -> ChartRelease:
    """Return a release of the chart.

    Raises:
        ChartError: if Helm would refuse it.
    """
    (found,) = outcomes([values], name, namespace, chart)
    if isinstance(found, ChartError):
        raise found
    return found


def outcomes(
    all_values: list[Values],
    name: str = "overlock",
    namespace: str = "overlock",
    chart: Path = CHART,
) -> list[ChartRelease | ChartError]:
    """Return a release for each of several values, or why Helm would refuse it."""
    answers = _helm("render", chart, [(values, name, namespace) for values in all_values])
    return [ChartError(each["error"]) if "error" in each else _read(each) for each in answers]


def lint(all_values: list[Values]) -> list[str]:
    """Return the warnings and errors of ``helm lint --strict`` with any of several values."""
    return [message for found in _helm("lint", CHART, all_values) for message in found]


def _helm(command: str, chart: Path, given: list[Any]) -> Any:
    environment = client_environment(SCRIPTS / "helm.txt")
    return run_client(environment, SCRIPTS / "helm.py", command, str(chart), json.dumps(given))


def _read(answer: dict[str, Any]) -> ChartRelease:
    files = answer["files"]
    notes = files.pop("overlock/templates/NOTES.txt")
    found = [each for text in files.values() for each in yaml.safe_load_all(text) if each]
    return ChartRelease(found, notes)


def fields(found: list[Object]) -> dict[str, Any]:
    """Return every field by its path, without what Helm and kustomize do on purpose differently.

    These are: the Namespace, which Helm makes itself; the digest in the name of kustomize's
    ConfigMap, for which the chart has an annotation; Helm's labels of objects, but not those of
    pods and selectors; the Service's type, whose default the chart states; and the order of the
    containers that download, which kustomize turns round.
    """
    flat: dict[str, Any] = {}
    (settings,) = (each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap")
    for each in json.loads(json.dumps(found).replace(settings, "overlock-settings")):
        metadata = each["metadata"]
        metadata["labels"] = {
            key: value for key, value in metadata.get("labels", {}).items() if key not in OF_HELM
        }
        if each["kind"] == "Service":
            assert each["spec"].pop("type", "ClusterIP") == "ClusterIP"
        if each["kind"] == "Deployment":
            annotations = each["spec"]["template"]["metadata"].pop("annotations", {})
            assert annotations.keys() <= {"checksum/settings"}
            each["spec"]["template"]["spec"]["initContainers"].sort(key=itemgetter("name"))
        if each["kind"] != "Namespace":
            flat |= _flat(each, f"{each['kind']} {metadata['name']}")
    return flat


def _flat(node: Any, path: str) -> dict[str, Any]:
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return {path: node}
    found = {path: "nothing"} if not node and not path.endswith("/labels") else {}
    for key, value in node.items():
        found |= _flat(value, f"{path}/{key}")
    return found
