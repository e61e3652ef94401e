"""Every check of the manifests for KServe finds a deliberate mistake."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from support.kserve_checks import CHECKS
from support.kserve_manifests import COMPONENTS, KServeManifests, kserve_manifests
from support.manifest_mistakes import GONE, changed
from support.manifest_schemas import validate

CONTAINER = "spec/containers/0"
PREDICTOR = "spec/predictor"
METRIC = f"{PREDICTOR}/autoScaling/metrics/0/external"
NOTES = "metadata/annotations"
SCRAPED = f"{NOTES}/serving.kserve.io~enable-prometheus-scraping"
CLASS = f"{NOTES}/serving.kserve.io~autoscalerClass"
RUNTIME, SERVICE = "ServingRuntime", "InferenceService"
ELSEWHERE = 'sum(avg_over_time(overlock_pending_work_seconds{namespace="a", pod=~"a.+"}[1m]))'

MISTAKES: list[tuple[str, str, str, Any]] = [
    # check, kind, where, what
    ("settings", RUNTIME, f"{CONTAINER}/env/0/value", "birds"),
    ("settings", RUNTIME, f"{CONTAINER}/env/0/name", "MODEL_NAME"),
    ("settings", RUNTIME, f"{CONTAINER}/env/1/value", "/mnt/model"),
    ("settings", RUNTIME, f"{CONTAINER}/env/1/name", "OVERLOCK_MODEL_FILE"),
    ("settings", RUNTIME, f"{CONTAINER}/env/5/value", "0"),
    ("settings", SERVICE, f"{PREDICTOR}/enableServiceLinks", GONE),
    ("choice", SERVICE, f"{PREDICTOR}/model/runtime", "overlook"),
    ("choice", SERVICE, f"{PREDICTOR}/model/modelFormat/name", "pytorch"),
    ("choice", SERVICE, f"{PREDICTOR}/model/protocolVersion", "v1"),
    ("choice", SERVICE, f"{PREDICTOR}/model/storageUri", GONE),
    ("choice", RUNTIME, f"{CONTAINER}/name", "overlock"),
    ("ports", RUNTIME, f"{CONTAINER}/env/2/value", "127.0.0.1"),
    ("ports", RUNTIME, f"{CONTAINER}/env/3/value", "8000"),
    ("ports", RUNTIME, f"{CONTAINER}/readinessProbe/httpGet/port", 8000),
    ("ports", RUNTIME, f"{CONTAINER}/ports/0/containerPort", 8000),
    ("ports", RUNTIME, f"{CONTAINER}/ports/1", GONE),
    ("ports", RUNTIME, f"{CONTAINER}/ports/1/name", "http2"),
    ("ports", RUNTIME, f"{CONTAINER}/env/10", GONE),
    ("ports", RUNTIME, "spec/protocolVersions/1", GONE),
    ("ports", RUNTIME, "spec/annotations/prometheus.kserve.io~port", "8001"),
    ("ports", RUNTIME, "spec/annotations/prometheus.kserve.io~path", "/metric"),
    ("ports", "PodMonitor", "spec/podMetricsEndpoints/0/port", "http1"),
    ("labels", RUNTIME, "spec/labels", {"app": "overlock"}),
    ("labels", "PodDisruptionBudget", "spec/selector/matchLabels", {"app": "overlock"}),
    (
        "labels",
        "PodDisruptionBudget",
        "spec/selector/matchLabels",
        {"app.kubernetes.io/name": "overlock"},
    ),
    ("security", RUNTIME, f"{CONTAINER}/securityContext/readOnlyRootFilesystem", GONE),
    ("security", RUNTIME, f"{CONTAINER}/securityContext/runAsUser", 0),
    ("security", SERVICE, f"{PREDICTOR}/automountServiceAccountToken", GONE),
    ("security", SERVICE, f"{PREDICTOR}/serviceAccountName", "default"),
    ("security", "ServiceAccount", "automountServiceAccountToken", True),
    ("volumes", RUNTIME, f"{CONTAINER}/volumeMounts/1", GONE),
    ("volumes", RUNTIME, f"{CONTAINER}/volumeMounts/0/mountPath", "/mnt/models"),
    ("volumes", RUNTIME, f"{CONTAINER}/volumeMounts/2/readOnly", True),
    ("grace", RUNTIME, f"{CONTAINER}/lifecycle/preStop/sleep/seconds", 3),
    ("grace", SERVICE, f"{PREDICTOR}/terminationGracePeriodSeconds", 60),
    ("grace", SERVICE, f"{PREDICTOR}/timeout", 60),
    ("rollout", SERVICE, f"{PREDICTOR}/minReplicas", 1),
    ("rollout", SERVICE, f"{PREDICTOR}/deploymentStrategy/rollingUpdate/maxUnavailable", 1),
    ("threads", RUNTIME, f"{CONTAINER}/resources/limits/cpu", "6"),
    ("threads", RUNTIME, f"{CONTAINER}/env/8", GONE),
    ("probes", RUNTIME, f"{CONTAINER}/startupProbe/failureThreshold", 100),
    ("probes", RUNTIME, f"{CONTAINER}/livenessProbe/httpGet/path", "/readyz"),
    ("commands", RUNTIME, f"{CONTAINER}/args/0", "sevre"),
    ("commands", RUNTIME, f"{CONTAINER}/command", ["overlock"]),
    ("memory", RUNTIME, f"{CONTAINER}/resources/limits/memory", "2Gi"),
    ("devices", RUNTIME, f"{CONTAINER}/env/4/value", "cpu"),
    ("devices", RUNTIME, f"{CONTAINER}/resources/limits/nvidia.com~gpu", GONE),
    ("images", RUNTIME, f"{CONTAINER}/image", "overlock-service"),
    ("pending_work", SERVICE, CLASS, "hpa"),
    ("pending_work", SERVICE, SCRAPED, "true"),
    ("pending_work", SERVICE, f"{PREDICTOR}/scaleMetric", "cpu"),
    ("pending_work", SERVICE, f"{METRIC}/metric/query", "sum(overlock_queue_requests)"),
    ("pending_work", SERVICE, f"{METRIC}/metric/query", ELSEWHERE),
    ("pending_work", SERVICE, f"{METRIC}/metric/serverAddress", "http://prometheus:9090"),
    ("pending_work", SERVICE, f"{METRIC}/target", {"type": "AverageValue", "value": "500m"}),
    ("pending_work", SERVICE, f"{METRIC}/target/value", "5m"),
    (
        "pending_work",
        SERVICE,
        f"{PREDICTOR}/autoScaling/behavior/scaleDown/stabilizationWindowSeconds",
        60,
    ),
    ("namespaces", SERVICE, "metadata/namespace", "default"),
    ("canary", SERVICE, f"{PREDICTOR}/canaryTrafficPercent", 10),
]

MISTAKES_WITH_KNATIVE: list[tuple[str, str, str, Any]] = [
    ("knative", RUNTIME, f"{CONTAINER}/lifecycle", {"preStop": {"sleep": {"seconds": 15}}}),
    ("knative", RUNTIME, f"{CONTAINER}/ports/0/name", "http"),
    (
        "knative",
        RUNTIME,
        f"{CONTAINER}/env/8",
        {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
    ),
    ("knative", SERVICE, f"{PREDICTOR}/terminationGracePeriodSeconds", 630),
    ("knative", SERVICE, f"{PREDICTOR}/deploymentStrategy", {"type": "Recreate"}),
    ("knative", SERVICE, f"{PREDICTOR}/scaleMetric", "rps"),
    ("knative", SERVICE, f"{PREDICTOR}/scaleTarget", 100),
    ("knative", SERVICE, f"{PREDICTOR}/containerConcurrency", 1),
    ("knative", SERVICE, CLASS, "keda"),
    ("rollout", SERVICE, f"{NOTES}/serving.knative.dev~progress-deadline", GONE),
    ("threads", RUNTIME, f"{CONTAINER}/env/8/value", "1"),
    ("canary", SERVICE, f"{PREDICTOR}/canaryTrafficPercent", 100),
]


def name_of(mistake: tuple[str, str, str, Any]) -> str:
    check, kind, where, what = mistake
    return f"{check}-{kind}-{where}-{'gone' if what is GONE else what}"


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=name_of)
def test_a_mistake_is_found(mistake: tuple[str, str, str, Any]) -> None:
    check, *change = mistake
    found = kserve_manifests(*COMPONENTS["standard with all"])
    assert [*CHECKS[check](changed(found, *change))] != []


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES_WITH_KNATIVE, ids=name_of)
def test_a_mistake_with_knative_is_found(mistake: tuple[str, str, str, Any]) -> None:
    check, *change = mistake
    found = kserve_manifests(*COMPONENTS["knative with all"])
    assert [*CHECKS[check](changed(found, *change))] != []


def test_every_check_has_a_mistake_that_it_finds() -> None:
    assert {check for check, *_ in MISTAKES + MISTAKES_WITH_KNATIVE} == CHECKS.keys()


@pytest.mark.parametrize(
    ("kind", "where", "what"),
    [
        (RUNTIME, "spec/protocolVersion", ["v2"]),
        (RUNTIME, "spec/supportedModelFormats/0/autoselect", True),
        (RUNTIME, f"{CONTAINER}/readynessProbe", {"httpGet": {"path": "/", "port": 1}}),
        (RUNTIME, f"{CONTAINER}/env/5/value", 3),
        (RUNTIME, f"{CONTAINER}/name", GONE),
        (RUNTIME, "spec/securityContext", {"runAsNonRoot": True}),
        (SERVICE, f"{PREDICTOR}/canaryTrafficPercentage", 10),
        (SERVICE, f"{PREDICTOR}/scaleMetric", "pending_work"),
        (SERVICE, f"{PREDICTOR}/maxReplicas", "10"),
        (SERVICE, f"{PREDICTOR}/model/storageURI", "s3://a/b"),
        (SERVICE, f"{PREDICTOR}/model/modelFormat", {"version": "1"}),
        (SERVICE, f"{METRIC}/metric/backend", "datadog"),
        (SERVICE, f"{METRIC}/threshold", "0.5"),
        (SERVICE, f"{METRIC}/target/value", "half"),
        (SERVICE, f"{METRIC}/target", GONE),
    ],
)
def test_a_misspelt_field_is_against_the_schema(kind: str, where: str, what: Any) -> None:
    found: KServeManifests = kserve_manifests(*COMPONENTS["standard with all"])
    with pytest.raises(jsonschema.ValidationError):
        validate(changed(found, kind, where, what).one(kind), "1.34")
