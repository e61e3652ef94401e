"""Checks of the manifests for KServe; each yields its complaints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import support.manifest_pod_checks as pods
import support.manifest_resource_checks as resources
from service.settings import PREFIX, Settings, SettingsError
from support.kserve_manifests import MODELS, KServeManifests
from support.manifest_cluster_checks import PENDING_WORK, complaints_about, seconds
from support.manifest_pod_checks import WRITTEN, mounts, settings_of, startup_seconds
from support.manifests import Manifests, manifests

Check = Callable[[KServeManifests], Iterator[str]]

PORTS_OF_KNATIVE = {"http1", "h2c"}


def deployed(check: Callable[[Manifests], Iterator[str]]) -> Check:
    """Make a check of a Deployment one of what KServe makes of the manifests."""

    def checked(kserve: KServeManifests) -> Iterator[str]:
        yield from check(kserve.as_deployed())

    checked.__name__ = check.__name__
    return checked


def settings(kserve: KServeManifests) -> Iterator[str]:
    """Every variable is a setting, the service accepts the values, and the model gets its name."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    ours = [name for name in kserve.environment if name.startswith(PREFIX)]
    yield from (f"{name} is no setting" for name in ours if name not in known)
    try:
        chosen = settings_of(kserve.as_deployed())
    except SettingsError as error:
        yield str(error)
        return
    if chosen.model_name != kserve.name:
        yield f"the model is named {chosen.model_name}, the InferenceService {kserve.name}"
    if str(chosen.models_file) != MODELS:
        yield f"the models are looked for in {chosen.models_file}"
    if kserve.predictor.get("enableServiceLinks") is not False:
        yield "Services may set variables that stop the start"


def choice(kserve: KServeManifests) -> Iterator[str]:
    """KServe finds the runtime for the model."""
    model = kserve.predictor["model"]
    if model["runtime"] != kserve.one("ServingRuntime")["metadata"]["name"]:
        yield f"there is no runtime {model['runtime']}"
    if model["modelFormat"]["name"] not in {
        each["name"] for each in kserve.runtime["supportedModelFormats"]
    }:
        yield f"the runtime has no format {model['modelFormat']['name']}"
    if model["protocolVersion"] not in kserve.runtime["protocolVersions"]:
        yield f"the runtime has no protocol {model['protocolVersion']}"
    if kserve.container["name"] != "kserve-container":
        yield "KServe does not find the container"
    if not model.get("storageUri"):
        yield "there is nothing to serve"


def ports(kserve: KServeManifests) -> Iterator[str]:
    """What is listened on is declared, probed and scraped; gRPC where it is a protocol."""
    chosen = settings_of(kserve.as_deployed())
    first, *others = kserve.container["ports"]
    if chosen.host != "0.0.0.0":
        yield "the service listens to its own pod alone"
    asked = {
        name: kserve.container[name]["httpGet"]["port"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    asked["Service"] = first["containerPort"]
    asked["annotation"] = int(kserve.runtime["annotations"]["prometheus.kserve.io/port"])
    yield from (f"{name} asks {port}" for name, port in asked.items() if port != chosen.port)
    if kserve.runtime["annotations"]["prometheus.kserve.io/path"] != "/metrics":
        yield "the annotation asks another path"
    grpc = chosen.grpc_port
    if [each["containerPort"] for each in others] != ([grpc] if grpc else []):
        yield f"gRPC listens on {grpc}, further ports are {others}"
    if any("h2c" not in each["name"] for each in others):
        yield "KServe takes gRPC's port for HTTP/1"
    if (grpc is not None) != ("grpc-v2" in kserve.runtime["protocolVersions"]):
        yield "the protocols say another thing of gRPC than its port"
    for monitor in kserve.all("PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        if endpoint["port"] != first["name"]:
            yield f"the PodMonitor asks port {endpoint['port']}"


def labels(kserve: KServeManifests) -> Iterator[str]:
    """Every selector of pods selects these, and no others of the namespace."""
    found = kserve.as_deployed().pod_labels
    budget = kserve.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    selectors = {"PodDisruptionBudget": budget}
    for monitor in kserve.all("PodMonitor"):
        selectors["PodMonitor"] = monitor["spec"]["selector"]["matchLabels"]
    for name, selector in selectors.items():
        if not selector or not selector.items() <= found.items():
            yield f"{name} selects {selector}"
    if "serving.kserve.io/inferenceservice" not in budget:
        yield "the disruption budget counts pods of other InferenceServices"


def security(kserve: KServeManifests) -> Iterator[str]:
    """Nothing gains anything, writes to its image, or has a token; the user may be any but root."""
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if kserve.container.get("securityContext") != wanted:
        yield "securityContext"
    if kserve.predictor.get("automountServiceAccountToken") is not False:
        yield "the pod has a token"
    account = kserve.one("ServiceAccount")
    if account.get("automountServiceAccountToken") is not False:
        yield "the account hands out tokens"
    if kserve.predictor["serviceAccountName"] != account["metadata"]["name"]:
        yield "the pod uses another account"


def volumes(kserve: KServeManifests) -> Iterator[str]:
    """Mounts have volumes, writable where needed, and leave KServe's own path alone."""
    there = {volume["name"] for volume in kserve.runtime["volumes"]}
    found = mounts(kserve.container)
    if there != {mount["name"] for mount in found.values()}:
        yield "a volume or a mount has no other end"
    for path in (*WRITTEN, kserve.environment["OVERLOCK_CACHE_DIR"]):
        if path not in found or found[path].get("readOnly"):
            yield f"{path} cannot be written to"
    if MODELS in found:
        yield f"KServe cannot mount {MODELS}"


def grace(kserve: KServeManifests) -> Iterator[str]:
    """A pod leaves its endpoints first, and then answers the accepted requests."""
    if kserve.predictor["timeout"] < settings_of(kserve.as_deployed()).max_timeout_seconds:
        yield "requests are cut off that the service would still answer"
    if not kserve.is_knative:
        yield from pods.grace(kserve.as_deployed())


def rollout(kserve: KServeManifests) -> Iterator[str]:
    """An upgrade takes no capacity away, and a slow start is no failure."""
    allowed = startup_seconds(kserve.as_deployed())
    if kserve.predictor["minReplicas"] < 2:
        yield "a single pod is an outage at every restart"
    if kserve.is_knative:
        deadline = kserve.annotations.get("serving.knative.dev/progress-deadline", "600s")
        if seconds(deadline) <= allowed:
            yield "a rollout is given up while a pod may still be starting"
    elif kserve.predictor["deploymentStrategy"] != {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }:
        yield "an upgrade costs pods"


def threads(kserve: KServeManifests) -> Iterator[str]:
    """The network takes as many threads as the pod has processors, which are not throttled."""
    if "cpu" in kserve.container["resources"]["limits"]:
        yield "a limit on processor time throttles decoding and the network alike"
    requested = kserve.container["resources"]["requests"]["cpu"]
    if kserve.environment.get("OMP_NUM_THREADS") != requested:
        yield "OMP_NUM_THREADS is not what the pod requests"


def knative(kserve: KServeManifests) -> Iterator[str]:
    """Knative gets nothing that it refuses, and scales by a batch of requests under way.

    Source: https://knative.dev/docs/serving/configuration/feature-flags, and KServe's validation.
    """
    if not kserve.is_knative:
        return
    if "lifecycle" in kserve.container:
        yield "Knative knows no lifecycle"
    if any("valueFrom" in each for each in kserve.container["env"]):
        yield "Knative knows no reference to a field"
    if [each["name"] in PORTS_OF_KNATIVE for each in kserve.container["ports"]] != [True]:
        yield f"Knative knows one port, named one of {sorted(PORTS_OF_KNATIVE)}"
    for key in ("terminationGracePeriodSeconds", "securityContext", "deploymentStrategy"):
        if key in kserve.predictor:
            yield f"{key} is refused in this mode"
    predictor = kserve.predictor
    if predictor.get("autoScaling") or kserve.annotations.get("serving.kserve.io/autoscalerClass"):
        yield "two autoscalers"
    batch = settings_of(kserve.as_deployed()).max_batch_size
    if (predictor.get("scaleMetric"), predictor.get("scaleTarget")) != ("concurrency", batch):
        yield f"scales on {predictor.get('scaleTarget')} of {predictor.get('scaleMetric')}"
    if predictor.get("containerConcurrency") != 0:
        yield "requests wait outside of the queue that knows their deadlines"


def canary(kserve: KServeManifests) -> Iterator[str]:
    """Traffic is split where Knative does it, between two models."""
    percent = kserve.predictor.get("canaryTrafficPercent")
    if percent is None:
        return
    if not kserve.is_knative:
        yield "only Knative splits traffic by canaryTrafficPercent"
    if not 0 < percent < 100:
        yield f"{percent} % is no share"


def pending_work(kserve: KServeManifests) -> Iterator[str]:
    """KEDA scales on the pending work of these pods, as ../keda does for a Deployment."""
    if "autoScaling" not in kserve.predictor:
        return
    if kserve.annotations.get("serving.kserve.io/autoscalerClass") != "keda":
        yield "KServe does not ask KEDA"
    if "scaleMetric" in kserve.predictor:
        yield "KServe refuses scaleMetric beside KEDA"
    scaling = kserve.predictor["autoScaling"]
    (metric,) = (each["external"] for each in scaling["metrics"])
    query = metric["metric"]["query"]
    yield from complaints_about(query)
    if not query.startswith(f"sum(avg_over_time({PENDING_WORK}{{"):
        yield f"scales on {query}"
    namespace = kserve.one("InferenceService")["metadata"]["namespace"]
    if re.findall(r'namespace="([^"]*)"', query) != [namespace]:
        yield f"the query looks elsewhere: {query}"
    pattern = "".join(re.findall(r'pod=~"([^"]*)"', query))
    if not re.fullmatch(pattern, f"{kserve.name}-predictor-5d8c-x2b7"):
        yield f"the query means other pods: {query}"
    alike = manifests("cpu with components").one("ScaledObject")["spec"]
    (trigger,) = alike["triggers"]
    if metric["metric"]["serverAddress"] != trigger["metadata"]["serverAddress"]:
        yield "asks another Prometheus than ../keda"
    target = metric["target"]
    if target["type"] != "Value" or float(trigger["metadata"]["threshold"]) != (
        float(target["value"].removesuffix("m")) / 1000
    ):
        yield f"aims at {target}"
    if scaling["behavior"] != alike["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]:
        yield "scales at another speed than ../keda"
    if "serving.kserve.io/enable-prometheus-scraping" in kserve.annotations:
        yield "pods are scraped twice, and their work counted twice"


def namespaces(kserve: KServeManifests) -> Iterator[str]:
    """Everything lies in one namespace."""
    name = kserve.one("Namespace")["metadata"]["name"]
    for each in kserve.objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != name:
            yield f"{each['kind']} {each['metadata']['name']} lies elsewhere"


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        *(settings, choice, ports, labels, security, volumes, grace, rollout, threads),
        *(deployed(pods.probes), deployed(pods.commands)),
        *(deployed(resources.memory), deployed(resources.devices), deployed(resources.images)),
        *(knative, canary, pending_work, namespaces),
    )
}
"""All checks of what the manifests for KServe must keep, by name."""
