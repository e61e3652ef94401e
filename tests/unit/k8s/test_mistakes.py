"""Every check finds a deliberate mistake, made in manifests that are otherwise right."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from support.manifest_checks import CHECKS
from support.manifest_mistakes import GONE, changed
from support.manifest_schemas import validate
from support.manifests import manifests

CONTAINER = "spec/template/spec/containers/0"
WEIGHTS = "spec/template/spec/initContainers/0"
POD = "spec/template/spec"
TRIGGER = "spec/triggers/0"
ROUTE = "spec/rules/0"
RULES = "spec/groups/0/rules"

MISTAKES: list[tuple[str, str, str, Any]] = [
    # check, kind, where, what
    ("settings", "ConfigMap", "data/OVERLOCK_MAX_BATCHSIZE", "8"),
    ("settings", "ConfigMap", "data/OVERLOCK_DEVICES", "gpu"),
    ("settings", "ConfigMap", "data/OVERLOCK_CLASSIFY_WEIGHTS", GONE),
    ("settings", "Deployment", f"{CONTAINER}/envFrom/0/configMapRef/name", "overlock-settings"),
    ("settings", "Deployment", f"{WEIGHTS}/envFrom", GONE),
    ("settings", "Deployment", f"{CONTAINER}/env/0/name", "OVERLOCK_THREADS"),
    ("settings", "Deployment", f"{POD}/enableServiceLinks", GONE),
    ("probes", "Deployment", f"{CONTAINER}/startupProbe/httpGet/path", "/health"),
    ("probes", "Deployment", f"{CONTAINER}/livenessProbe/httpGet/path", "/readyz"),
    ("probes", "Deployment", f"{CONTAINER}/readinessProbe/failureThreshold", 1),
    ("probes", "Deployment", f"{CONTAINER}/startupProbe/failureThreshold", 100),
    ("commands", "Deployment", f"{CONTAINER}/args/0", "sevre"),
    ("commands", "Deployment", f"{CONTAINER}/command", ["overlock"]),
    ("commands", "Deployment", f"{WEIGHTS}/args/0", "fetch"),
    ("weights", "ConfigMap", "data/OVERLOCK_CLASSIFY_WEIGHTS", "random"),
    ("weights", "ConfigMap", "data/OVERLOCK_DETECT_WEIGHTS", "pretrained"),
    ("weights", "Deployment", f"{WEIGHTS}/args/1", "overlock_t"),
    ("weights", "Deployment", f"{WEIGHTS}/volumeMounts/0/mountPath", "/cache"),
    ("grace", "Deployment", f"{POD}/terminationGracePeriodSeconds", 60),
    ("grace", "Deployment", f"{CONTAINER}/lifecycle", GONE),
    ("grace", "Deployment", f"{POD}/terminationGracePeriodSeconds", 630),
    ("grace", "ConfigMap", "data/OVERLOCK_DRAIN_DELAY_SECONDS", "60"),
    ("grace", "ConfigMap", "data/OVERLOCK_MAX_TIMEOUT_SECONDS", "600"),
    ("grace", "Deployment", f"{CONTAINER}/lifecycle/preStop/sleep/seconds", 3),
    ("security", "Deployment", f"{POD}/securityContext/runAsUser", 0),
    ("security", "Deployment", f"{POD}/securityContext/seccompProfile", GONE),
    ("security", "Deployment", f"{POD}/securityContext/fsGroupChangePolicy", "Always"),
    ("security", "Deployment", f"{CONTAINER}/securityContext/readOnlyRootFilesystem", False),
    ("security", "Deployment", f"{WEIGHTS}/securityContext/capabilities/drop", []),
    ("security", "Deployment", f"{POD}/automountServiceAccountToken", GONE),
    ("security", "Deployment", f"{POD}/serviceAccountName", "default"),
    ("security", "ServiceAccount", "automountServiceAccountToken", True),
    ("security", "Namespace", "metadata/labels/pod-security.kubernetes.io~enforce", "baseline"),
    ("volumes", "Deployment", f"{CONTAINER}/volumeMounts/0/name", "cach"),
    ("volumes", "Deployment", f"{CONTAINER}/volumeMounts/2", GONE),
    ("volumes", "Deployment", f"{CONTAINER}/volumeMounts/1/readOnly", True),
    ("volumes", "Deployment", f"{CONTAINER}/volumeMounts/3/subPath", "keys"),
    ("volumes", "Deployment", f"{CONTAINER}/volumeMounts/3/readOnly", GONE),
    ("volumes", "Deployment", f"{CONTAINER}/volumeMounts/3/mountPath", "/etc/overlock"),
    ("volumes", "ConfigMap", "data/OVERLOCK_CACHE_DIR", "/cache"),
    ("volumes", "ConfigMap", "data/OVERLOCK_API_KEYS_FILE", "/etc/overlock/keys"),
    ("volumes", "PersistentVolumeClaim", "metadata/name", "cache"),
    ("memory", "Deployment", f"{CONTAINER}/resources/limits/memory", "8Gi"),
    ("memory", "ConfigMap", "data/OVERLOCK_HTTP_WORKERS", "32"),
    ("memory", "ConfigMap", "data/OVERLOCK_MAX_QUEUE_BYTES", str(16 * 2**30)),
    ("threads", "Deployment", f"{CONTAINER}/resources/limits/cpu", "6"),
    ("threads", "Deployment", f"{CONTAINER}/env/0", GONE),
    ("threads", "Deployment", f"{CONTAINER}/env/0/valueFrom/resourceFieldRef/divisor", "1m"),
    ("devices", "ConfigMap", "data/OVERLOCK_DEVICES", GONE),
    ("devices", "ConfigMap", "data/OVERLOCK_DEVICES", "cuda:0,cuda:1"),
    ("devices", "ConfigMap", "data/OVERLOCK_DEVICES", "cpu"),
    ("devices", "Deployment", f"{CONTAINER}/resources/limits/nvidia.com~gpu", GONE),
    ("devices", "Deployment", f"{CONTAINER}/image", "overlock-service:0.3.0-cpu"),
    ("images", "Deployment", f"{WEIGHTS}/image", "overlock-service:0.0.9-cuda"),
    ("images", "Deployment", f"{CONTAINER}/image", "overlock-service"),
    ("images", "Deployment", f"{CONTAINER}/image", "overlock-service:main-cuda"),
    ("metric_names", "ScaledObject", f"{TRIGGER}/metadata/query", "sum(overlock_pending_seconds)"),
    ("metric_names", "PrometheusRule", f"{RULES}/0/expr", "overlock_errors_total > 1"),
    ("metric_names", "PrometheusRule", f"{RULES}/0/expr", 'overlock_requests_total{code="5"} > 1'),
    ("metric_names", "PrometheusRule", f"{RULES}/0/expr", "sum by (path) (up) > 1"),
    ("ports", "ConfigMap", "data/OVERLOCK_PORT", "8080"),
    ("ports", "ConfigMap", "data/OVERLOCK_GRPC_PORT", "off"),
    ("ports", "ConfigMap", "data/OVERLOCK_HOST", "127.0.0.1"),
    ("ports", "Service", "spec/ports/0/targetPort", 8080),
    ("ports", "Service", "spec/ports/1/targetPort", "http"),
    ("ports", "PodMonitor", "spec/podMetricsEndpoints/0/port", "metrics"),
    ("ports", "PodMonitor", "spec/podMetricsEndpoints/0/path", "/metric"),
    ("ports", "NetworkPolicy", "spec/ingress/0/ports/0/port", 80),
    ("ports", "NetworkPolicy", "spec/ingress/0/ports/1/port", 80),
    ("ports", "Deployment", f"{CONTAINER}/livenessProbe/httpGet/port", 8080),
    ("routes", "HTTPRoute", f"{ROUTE}/backendRefs/0/name", "overlook"),
    ("routes", "HTTPRoute", f"{ROUTE}/backendRefs/0/port", 8000),
    ("routes", "HTTPRoute", f"{ROUTE}/timeouts/request", "60s"),
    ("routes", "HTTPRoute", f"{ROUTE}/timeouts", GONE),
    ("labels", "Service", "spec/selector", {"app": "overlock"}),
    ("labels", "Service", "spec/selector", {"app.kubernetes.io/name": "overlock"}),
    ("labels", "PodDisruptionBudget", "spec/selector/matchLabels", {}),
    ("labels", "NetworkPolicy", "spec/podSelector/matchLabels", {"app": "overlock"}),
    ("labels", "PodMonitor", "spec/selector/matchLabels", {"app": "overlock"}),
    ("labels", "PodMonitor", "spec/jobLabel", "app"),
    ("labels", "PodMonitor", "spec/podTargetLabels", []),
    ("labels", "PrometheusRule", f"{RULES}/0/expr", 'absent(up{job="overlock-service"} == 1)'),
    ("labels", "Deployment", "spec/template/metadata/labels", {"app": "overlock"}),
    ("spread", "Deployment", f"{POD}/topologySpreadConstraints/0", GONE),
    ("rollout", "Deployment", "spec/strategy/rollingUpdate/maxUnavailable", 1),
    ("rollout", "Deployment", "spec/progressDeadlineSeconds", 600),
    ("rollout", "PodDisruptionBudget", "spec/maxUnavailable", 0),
    ("rollout", "PrometheusRule", f"{RULES}/2/for", "5m"),
    ("scaling", "Deployment", "spec/replicas", 2),
    ("scaling", "ScaledObject", "spec/scaleTargetRef/name", "overlook"),
    ("scaling", "ScaledObject", "spec/minReplicaCount", 1),
    ("scaling", "ScaledObject", f"{TRIGGER}/metadata/threshold", "500"),
    ("scaling", "ScaledObject", f"{TRIGGER}/metadata/query", "sum(overlock_queue_requests)"),
    (
        "scaling",
        "ScaledObject",
        "spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown/stabilizationWindowSeconds",
        60,
    ),
    ("fallback", "ScaledObject", "spec/fallback", GONE),
    ("fallback", "ScaledObject", "spec/fallback/replicas", 1),
    ("fallback", "ScaledObject", f"{TRIGGER}/metadata/ignoreNullValues", "true"),
    ("namespaces", "Namespace", "metadata/name", "vision"),
    ("namespaces", "Service", "metadata/namespace", "default"),
    ("namespaces", "ScaledObject", f"{TRIGGER}/metadata/query", "sum(up)"),
    ("namespaces", "ScaledObject", f"{TRIGGER}/metadata/query", 'sum(up{namespace="overlock"})'),
    ("network", "NetworkPolicy", "spec/policyTypes", ["Ingress"]),
    ("network", "NetworkPolicy", "spec/ingress/0/from", GONE),
    ("network", "NetworkPolicy", "spec/egress/1/ports/0/port", 53),
    ("network", "NetworkPolicy", "spec/egress/2/ports/0/port", 80),
    ("network", "NetworkPolicy", "spec/egress/2/to/0/ipBlock/except", []),
    ("network", "NetworkPolicy", "spec/egress/2/to/1/ipBlock/except/0", GONE),
    ("network", "NetworkPolicy", "spec/egress/2/to/1", GONE),
    ("network", "NetworkPolicy", "spec/egress/2/to", GONE),
]

AUTOSCALER = "spec/metrics/0/pods"
MISTAKES_WITHOUT_KEDA: list[tuple[str, str, str, Any]] = [
    ("metric_names", "HorizontalPodAutoscaler", f"{AUTOSCALER}/metric/name", "pending_work"),
    ("scaling", "HorizontalPodAutoscaler", f"{AUTOSCALER}/metric/name", "overlock_held_bytes"),
    ("scaling", "HorizontalPodAutoscaler", f"{AUTOSCALER}/target/averageValue", "500"),
    ("scaling", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name", "overlook"),
    ("scaling", "HorizontalPodAutoscaler", "spec/minReplicas", 1),
    (
        "scaling",
        "HorizontalPodAutoscaler",
        "spec/metrics/0",
        {"type": "Resource", "resource": {"name": "cpu"}},
    ),
]


def name_of(mistake: tuple[str, str, str, Any]) -> str:
    check, kind, where, what = mistake
    return f"{check}-{kind}-{where.removeprefix(POD)}-{'gone' if what is GONE else what}"


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=name_of)
def test_a_mistake_is_found(mistake: tuple[str, str, str, Any]) -> None:
    check, *change = mistake
    assert [*CHECKS[check](changed(manifests("gpu with components"), *change))] != []


@pytest.mark.parametrize("mistake", MISTAKES_WITHOUT_KEDA, ids=name_of)
def test_a_mistake_of_the_autoscaler_is_found(mistake: tuple[str, str, str, Any]) -> None:
    check, *change = mistake
    assert [*CHECKS[check](changed(manifests("gpu"), *change))] != []


def test_two_autoscalers_are_found() -> None:
    both = manifests("gpu with components")
    both.objects += manifests("gpu").all("HorizontalPodAutoscaler")
    assert [*CHECKS["scaling"](both)] == ["2 autoscalers"]


def test_every_check_has_a_mistake_that_it_finds() -> None:
    assert {check for check, *_ in MISTAKES} == CHECKS.keys()


@pytest.mark.parametrize(
    ("kind", "where", "what"),
    [
        ("Deployment", f"{CONTAINER}/readynessProbe", {"httpGet": {"path": "/", "port": 1}}),
        ("Deployment", f"{CONTAINER}/securityContext/readonlyRootFilesystem", True),
        ("Deployment", "spec/strategy/rollingUpdate/maxUnavailable", [0]),
        ("Deployment", f"{POD}/terminationGracePeriod", 60),
        ("Service", "spec/ports/0/port", "http"),
        ("PodDisruptionBudget", "spec/maxUnavailble", 1),
        ("NetworkPolicy", "spec/egres", []),
        ("ScaledObject", "spec/maxReplicas", 3),
        ("ScaledObject", "spec/triggers/0/metadata/threshold", 0.5),
        ("PodMonitor", "spec/podMetricsEndpoints/0/targetport", "http"),
        ("PodMonitor", "spec/endpoints", []),
        ("HTTPRoute", f"{ROUTE}/timeout", "610s"),
        ("HTTPRoute", f"{ROUTE}/timeouts/request", "610"),
        ("PrometheusRule", f"{RULES}/0/severity", "critical"),
        ("PrometheusRule", f"{RULES}/0/for", "five minutes"),
    ],
)
def test_a_misspelt_field_is_against_the_schema(kind: str, where: str, what: Any) -> None:
    wrong = changed(manifests("gpu with components"), kind, where, what).one(kind)
    with pytest.raises(jsonschema.ValidationError):
        validate(wrong, "1.34")
