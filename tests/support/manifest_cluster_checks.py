"""Checks between objects of the manifests; each yields its complaints."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from service import metrics
from support.manifest_pod_checks import settings_of, startup_seconds
from support.manifests import Manifests, Object

WORLD = ("0.0.0.0/0", "::/0")
INSIDE = (
    *("10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.3.4", "169.254.169.254"),
    *("fd00:10:96::a", "fd00:ec2::254", "fe80::1"),
)
"""Addresses of pods, Services, nodes and clouds' metadata."""

DNS = {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)}
"""Kubernetes' port and that of OpenShift's pods."""

OF_PROMETHEUS = {"up"}
"""Series that are not the service's own."""

INSTANCE = "app.kubernetes.io/instance"
INSTANCE_IN_METRICS = "app_kubernetes_io_instance"
LABELS_OF_PROMETHEUS = {
    *("le", "job", "instance", "namespace", "pod", "container", INSTANCE_IN_METRICS)
}
PENDING_WORK = "overlock_pending_work_seconds"
PROBE_NAMES = ("startupProbe", "livenessProbe", "readinessProbe")
WORDS = {"by", "on", "without", "unless", "and", "or", "ignoring", "group_left", "group_right"}


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


def complaints_about(expression: str) -> Iterator[str]:
    """Yield the metrics and labels of an expression that the service does not export."""
    series, labels = exported(), set(LABELS_OF_PROMETHEUS)
    grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
    matched = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression)
    bare = re.sub(r"\"[^\"]*\"", "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on|without)\s*\([^)]*\)", " ", bare)
    for name in re.findall(r"[a-zA-Z_:][\w:]*(?![\w:]*\s*\()", bare):
        if name in WORDS | OF_PROMETHEUS:
            continue
        if name not in series:
            yield f"there is no metric {name}"
        labels |= series.get(name, set())
    asked = {*matched, *re.split(r"[,\s]+", " ".join(grouped))} - {""}
    yield from (f"no metric of {expression!r} has a label {name}" for name in asked - labels)


def metric_names(manifests: Manifests) -> Iterator[str]:
    """Alerts and autoscalers ask for metrics and labels that the service exports."""
    for rule in rules(manifests):
        yield from complaints_about(rule["expr"])
    for autoscaler in manifests.all("HorizontalPodAutoscaler"):
        for metric in autoscaler["spec"]["metrics"]:
            yield from complaints_about(metric.get("pods", {}).get("metric", {}).get("name", "cpu"))
    for scaled in manifests.all("ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            yield from complaints_about(trigger["metadata"]["query"])


def rules(manifests: Manifests) -> list[Object]:
    """Return all alert rules."""
    groups = [group for rule in manifests.all("PrometheusRule") for group in rule["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def ports(manifests: Manifests) -> Iterator[str]:
    """Each port is listened on, served and let through; HTTP's is probed and scraped."""
    settings, ports = settings_of(manifests), manifests.service["ports"]
    listened = [port for port in (settings.port, settings.grpc_port) if port is not None]
    if [port["containerPort"] for port in ports] != listened:
        yield f"the container's ports are {ports}, the service's {listened}"
    names = [port["name"] for port in ports]
    asked = {name: [manifests.service[name]["httpGet"]["port"]] for name in PROBE_NAMES}
    for monitor in manifests.all("PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        asked["PodMonitor"] = [endpoint["port"]]
        if endpoint["path"] != "/metrics":
            yield f"the PodMonitor asks {endpoint['path']}"
    for name, value in asked.items():
        if value != names[:1]:
            yield f"{name} asks port {value}, not {names[0]}"
    (allowed,) = manifests.one("NetworkPolicy")["spec"]["ingress"]
    let_through = [port["port"] for port in allowed["ports"]]
    served = [port["targetPort"] for port in manifests.one("Service")["spec"]["ports"]]
    for name, value in {"NetworkPolicy": let_through, "Service": served}.items():
        if value != names:
            yield f"{name} has the ports {value}, not {names}"
    if settings.host not in {"0.0.0.0", "::"}:
        yield "the service listens to its own pod alone"


def routes(manifests: Manifests) -> Iterator[str]:
    """A gateway reaches the Service, and waits longer than a caller may."""
    service = manifests.one("Service")
    served = [(service["metadata"]["name"], port["port"]) for port in service["spec"]["ports"]]
    longest = settings_of(manifests).max_timeout_seconds
    for rule in (rule for each in manifests.all("HTTPRoute") for rule in each["spec"]["rules"]):
        backends = [(each["name"], each["port"]) for each in rule["backendRefs"]]
        if backends != served[:1]:
            yield f"the gateway sends requests to {backends}"
        yield from (
            f"the gateway gives a request up: {name} is {value}"
            for name, value in rule.get("timeouts", {"request": "15s"}).items()
            if seconds(value) <= longest
        )


def labels(manifests: Manifests) -> Iterator[str]:
    """Every selector of pods selects these, and no other release's."""
    selectors = {
        "Deployment": manifests.deployment["selector"]["matchLabels"],
        "Service": manifests.one("Service")["spec"]["selector"],
        "PodDisruptionBudget": manifests.one("PodDisruptionBudget")["spec"]["selector"][
            "matchLabels"
        ],
        "NetworkPolicy": manifests.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    }
    for constraint in manifests.pod["topologySpreadConstraints"]:
        selectors[constraint["topologyKey"]] = constraint["labelSelector"]["matchLabels"]
    for monitor in manifests.all("PodMonitor"):
        selectors["PodMonitor"] = monitor["spec"]["selector"]["matchLabels"]
        if INSTANCE not in monitor["spec"].get("podTargetLabels", []):
            yield "metrics do not tell releases apart"
        job = manifests.pod_labels.get(monitor["spec"]["jobLabel"])
        for rule in rules(manifests):
            yield from (
                f"{rule['alert']} looks for job {name}, which is {job}"
                for name in re.findall(r'job="([^"]*)"', rule["expr"])
                if name != job
            )
    for name, selector in selectors.items():
        if INSTANCE not in selector or not selector.items() <= manifests.pod_labels.items():
            yield f"{name} selects {selector}"


def spread(manifests: Manifests) -> Iterator[str]:
    """Pods keep apart, over nodes and zones."""
    keys = {each["topologyKey"] for each in manifests.pod.get("topologySpreadConstraints", [])}
    if keys != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
        yield f"spread over {sorted(keys)}"


def rollout(manifests: Manifests) -> Iterator[str]:
    """Neither an upgrade nor a drained node takes capacity away, and a slow start is no failure."""
    strategy = manifests.deployment["strategy"]
    if strategy.get("rollingUpdate") != {"maxUnavailable": 0, "maxSurge": 1}:
        yield f"an upgrade costs pods: {strategy}"
    budget = manifests.one("PodDisruptionBudget")["spec"]
    if budget.get("maxUnavailable") != 1:
        yield "the disruption budget is not one pod"
    allowed = startup_seconds(manifests)
    if manifests.deployment["progressDeadlineSeconds"] <= allowed:
        yield "a rollout is given up while a pod may still be starting"
    for rule in rules(manifests):
        if rule["alert"] == "OverlockNoEngine" and seconds(rule["for"]) < allowed:
            yield "an alert fires while a pod may still be starting"


def seconds(duration: str) -> int:
    """Return a duration like 20m in seconds."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def scaling(manifests: Manifests) -> Iterator[str]:
    """One autoscaler, on pending work; up at once, down slowly; never a single pod."""
    if "replicas" in manifests.deployment:
        yield "every apply sets the autoscaler's replicas back"
    scalers = [_as_autoscaler(each) for each in manifests.all("ScaledObject")]
    scalers += [_of_pods(each) for each in manifests.all("HorizontalPodAutoscaler")]
    if len(scalers) != 1:
        yield f"{len(scalers)} autoscalers"
        return
    (scaler,) = scalers
    if scaler["target"] != manifests.one("Deployment")["metadata"]["name"]:
        yield f"scales {scaler['target']}"
    if scaler["least"] < 2:
        yield "a single pod is an outage at every restart"
    if PENDING_WORK not in scaler["metric"]:
        yield f"scales on {scaler['metric']}"
    if scaler["seconds"] != 0.5:
        yield f"aims at {scaler['seconds']} s of pending work"
    behavior = scaler["behavior"]
    if behavior["scaleUp"]["stabilizationWindowSeconds"] != 0:
        yield "hesitates to scale up"
    if behavior["scaleDown"]["stabilizationWindowSeconds"] < 300:
        yield "scales down at the first lull"


def _of_pods(autoscaler: Object) -> dict[str, Any]:
    spec = autoscaler["spec"]
    (metric,) = spec["metrics"]
    pods = metric.get("pods") or {"metric": {"name": "cpu"}, "target": {"averageValue": "0m"}}
    return {
        "target": spec["scaleTargetRef"]["name"],
        "least": spec["minReplicas"],
        "metric": pods["metric"]["name"],
        "seconds": _number(pods["target"]["averageValue"]),
        "behavior": spec["behavior"],
    }


def _number(quantity: str) -> float:
    thousandths = quantity.endswith("m")
    return float(quantity.removesuffix("m")) / (1000 if thousandths else 1)


def _as_autoscaler(scaled: Object) -> dict[str, Any]:
    spec = scaled["spec"]
    (trigger,) = spec["triggers"]
    return {
        "target": spec["scaleTargetRef"]["name"],
        "least": spec["minReplicaCount"],
        "metric": trigger["metadata"]["query"],
        "seconds": float(trigger["metadata"]["threshold"]),
        "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
    }


def fallback(manifests: Manifests) -> Iterator[str]:
    """Without metrics KEDA keeps the present number of pods."""
    for scaled in manifests.all("ScaledObject"):
        found = scaled["spec"].get("fallback", {})
        if found.get("behavior") != "currentReplicasIfHigher":
            yield "without metrics, pods are taken away"
        if found.get("replicas", 0) < scaled["spec"]["minReplicaCount"]:
            yield "without metrics there may be less than the minimum"
        if scaled["spec"]["triggers"][0]["metadata"].get("ignoreNullValues") != "false":
            yield "no data counts as no work"


def namespaces(manifests: Manifests) -> Iterator[str]:
    """Everything lies in one namespace; the query of KEDA means it, and this release."""
    name = manifests.one("Namespace")["metadata"]["name"]
    for each in manifests.objects:
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != name:
            yield f"{each['kind']} {each['metadata']['name']} lies elsewhere"
    for scaled in manifests.all("ScaledObject"):
        query = scaled["spec"]["triggers"][0]["metadata"]["query"]
        asked = re.findall(r'(\w+)="([^"]*)"', query)
        instance = manifests.pod_labels.get(INSTANCE)
        if asked != [("namespace", name), (INSTANCE_IN_METRICS, instance)]:
            yield f"KEDA looks elsewhere: {query}"


def network(manifests: Manifests) -> Iterator[str]:
    """Only the gateway and Prometheus may connect in; only DNS and HTTPS may go out."""
    policy = manifests.one("NetworkPolicy")["spec"]
    if {*policy["policyTypes"]} != {"Ingress", "Egress"}:
        yield "one direction is not looked at"
    (allowed,) = policy["ingress"]
    sources: list[Object] = allowed.get("from", [])
    selectors = [each.get("namespaceSelector", {}).get("matchLabels") for each in sources]
    if not selectors or not all(selectors):
        yield "anyone may come in"
    yield from too_far(policy)


def too_far(policy: Object) -> Iterator[str]:
    """Yield what a policy lets out beside DNS, and HTTPS to the internet."""
    out = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    if out != DNS | {("TCP", 443)}:
        yield f"out go {sorted(out)}"
    anywhere: list[Object] = [{"ipBlock": {"cidr": world}} for world in WORLD]
    for rule in policy["egress"]:
        blocks = [each["ipBlock"] for each in rule.get("to", anywhere) if "ipBlock" in each]
        open_to = [block for block in blocks if block["cidr"] in WORLD]
        if ("TCP", 443) in _ports(rule) and [each["cidr"] for each in open_to] != [*WORLD]:
            yield "one family of addresses cannot be reached"
        for inside in map(ipaddress.ip_address, INSIDE):
            if any(_is_open(block, inside) for block in open_to):
                yield f"{inside} can be reached"


def _ports(rule: Object) -> set[tuple[str, int]]:
    return {(port["protocol"], port["port"]) for port in rule["ports"]}


def _is_open(block: Object, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    closed = map(ipaddress.ip_network, block.get("except", []))
    network = ipaddress.ip_network(block["cidr"])
    return address in network and not any(address in each for each in closed)
