"""Releases: overlays as ``k8s/example`` is one, with another namespace, label and names."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.manifests import K8S, Manifests, Object, kustomize

INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True)
class Release:
    """What an overlay says of itself.

    Attributes:
        instance: the label's value.
        namespace: of all objects.
        naming: the field that changes names, with its value.
        folder: of k8s, with what is deployed.
        components: of k8s.
    """

    instance: str
    namespace: str = "overlock"
    naming: tuple[str, str] | None = None
    folder: str = "gpu"
    components: tuple[str, ...] = ("httproute", "keda", "monitoring", "shared-cache")

    def render(self) -> Manifests:
        """Return the release's objects."""
        return Manifests([*yaml.safe_load_all(_rendered(self))])


@functools.cache
def _rendered(release: Release) -> str:
    example = yaml.safe_load((K8S / "example/kustomization.yaml").read_text("utf-8"))
    with tempfile.TemporaryDirectory() as overlay:
        # Kustomize takes relative paths alone, and resolves links first.
        place = Path(overlay).resolve()
        kustomization: dict[str, Any] = {
            "namespace": release.namespace,
            "labels": [{"pairs": {INSTANCE: release.instance}, "includeSelectors": True}],
            "resources": [os.path.relpath(K8S / release.folder, place)],
            "components": [os.path.relpath(K8S / name, place) for name in release.components],
        }
        if "keda" in release.components:
            kustomization["replacements"] = example["replacements"]
        kustomization |= dict([release.naming] if release.naming else [])
        (place / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(place)


def selectors(objects: list[Object]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every selector of pods by labels, with its place."""
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Service":
            yield name, each["spec"]["selector"]
        yield from ((f"{name}{path}", found) for path, found in _match_labels(each))


def _match_labels(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from _match_labels(each, f"{path}/{number}")
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "matchLabels":
                yield path, value
            elif key != "namespaceSelector":
                yield from _match_labels(value, f"{path}/{key}")


def pod_labels(objects: list[Object]) -> Iterator[dict[str, str]]:
    """Yield the labels of the pods that objects make."""
    for each in objects:
        if each["kind"] in ("Deployment", "Job"):
            yield each["spec"]["template"]["metadata"]["labels"]
        if each["kind"] == "RayJob":
            cluster = each["spec"]["rayClusterSpec"]
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            yield each["spec"]["submitterPodTemplate"]["metadata"]["labels"]
            yield from (group["template"]["metadata"]["labels"] for group in groups)
