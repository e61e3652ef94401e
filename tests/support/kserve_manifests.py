"""The rendered manifests for KServe, and what KServe makes of them."""

from __future__ import annotations

import copy
from typing import Any

from service.settings import PREFIX
from support.manifests import Manifests, Object, objects

COMPONENTS: dict[str, tuple[str, ...]] = {
    "standard": (),
    "gpu": ("gpu",),
    "pending work": ("pending-work",),
    "grpc": ("grpc",),
    "standard with all": ("gpu", "pending-work", "grpc"),
    "knative": ("knative",),
    "canary": ("knative", "canary"),
    "knative with all": ("gpu", "knative", "canary"),
}
"""The components of k8s/kserve that are rendered together, in their order."""

MODELS = "/mnt/models"
"""Where KServe mounts the models, read-only."""

OF_PODS = (
    "automountServiceAccountToken",
    "enableServiceLinks",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
)
"""Fields of a predictor that are a pod's."""


class KServeManifests(Manifests):
    """A ServingRuntime, an InferenceService and what goes along."""

    @property
    def name(self) -> str:
        """The InferenceService's name."""
        name: str = self.one("InferenceService")["metadata"]["name"]
        return name

    @property
    def annotations(self) -> dict[str, str]:
        """The InferenceService's annotations."""
        annotations: dict[str, str] = self.one("InferenceService")["metadata"]["annotations"]
        return annotations

    @property
    def runtime(self) -> Object:
        """The ServingRuntime's specification."""
        spec: Object = self.one("ServingRuntime")["spec"]
        return spec

    @property
    def predictor(self) -> Object:
        """The predictor of the InferenceService."""
        predictor: Object = self.one("InferenceService")["spec"]["predictor"]
        return predictor

    @property
    def container(self) -> Object:
        """The container that serves, as the ServingRuntime states it."""
        (container,) = self.runtime["containers"]
        found: Object = container
        return found

    @property
    def is_knative(self) -> bool:
        """Whether KServe is told to use Knative."""
        return self.annotations["serving.kserve.io/deploymentMode"] == "Knative"

    @property
    def environment(self) -> dict[str, str]:
        """The container's variables, as KServe and the kubelet fill them."""
        resources = self.container["resources"]
        values = {}
        for each in self.container["env"]:
            if "value" in each:
                values[each["name"]] = each["value"].replace("{{.Name}}", self.name)
            else:
                kind, _, resource = each["valueFrom"]["resourceFieldRef"]["resource"].partition(".")
                values[each["name"]] = resources[kind][resource]
        return values

    def as_deployed(self) -> Manifests:
        """Return the Deployment that KServe makes in its Standard mode, beside the other objects.

        The settings become a ConfigMap, which is where ``Manifests`` has them.
        """
        container = copy.deepcopy(self.container)
        container["env"] = [
            each if "valueFrom" in each else each | {"value": self.environment[each["name"]]}
            for each in container["env"]
        ]
        storage = "kserve-provision-location"
        container["volumeMounts"].append({"name": storage, "mountPath": MODELS, "readOnly": True})
        pod: dict[str, Any] = {key: self.predictor[key] for key in OF_PODS if key in self.predictor}
        pod |= {
            "tolerations": self.runtime.get("tolerations", []),
            "volumes": [*self.runtime["volumes"], {"name": storage, "emptyDir": {}}],
            "initContainers": [],
            "containers": [container],
        }
        labels = {
            **self.runtime["labels"],
            "app": f"isvc.{self.name}-predictor",
            "serving.kserve.io/inferenceservice": self.name,
        }
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{self.name}-predictor", "namespace": "overlock"},
            "spec": {
                "strategy": self.predictor.get("deploymentStrategy", {}),
                "selector": {"matchLabels": {"app": labels["app"]}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
        settings = {
            name: value for name, value in self.environment.items() if name.startswith(PREFIX)
        }
        stated = {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": settings}
        return Manifests([*copy.deepcopy(self.objects), deployment, stated])


def service_links(name: str) -> dict[str, str]:
    """Return the variables that Kubernetes sets for the Service of an InferenceService's predictor.

    Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
    """
    prefix, address = f"{name}-predictor".upper().replace("-", "_"), "10.96.0.17"
    return {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": "80",
        f"{prefix}_SERVICE_PORT_HTTP": "80",
        f"{prefix}_PORT": f"tcp://{address}:80",
        f"{prefix}_PORT_80_TCP": f"tcp://{address}:80",
        f"{prefix}_PORT_80_TCP_PROTO": "tcp",
        f"{prefix}_PORT_80_TCP_PORT": "80",
        f"{prefix}_PORT_80_TCP_ADDR": address,
    }


def kserve_manifests(*components: str) -> KServeManifests:
    """Return the objects of k8s/kserve/base with components, to keep or to change."""
    return KServeManifests(objects("kserve/base", *(f"kserve/{name}" for name in components)))
