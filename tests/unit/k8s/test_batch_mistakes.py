"""Every check of the manifests for batch work finds a deliberate mistake."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from support.batch_manifest_checks import CHECKS
from support.batch_manifests import batch_manifests
from support.manifest_mistakes import GONE, changed
from support.manifest_schemas import validate

POD = "spec/template/spec"
CONTAINER = f"{POD}/containers/0"
RULES = "spec/podFailurePolicy/rules"
JOB, RAY = "Job", "RayJob"
HEAD, GPU = "spec/rayClusterSpec/headGroupSpec", "spec/rayClusterSpec/workerGroupSpecs/0"
HEAD_POD, GPU_POD = f"{HEAD}/template/spec", f"{GPU}/template/spec"
HEAD_CONTAINER, GPU_CONTAINER = f"{HEAD_POD}/containers/0", f"{GPU_POD}/containers/0"
SUBMITTER = "spec/submitterPodTemplate/spec"
ENTRYPOINT = "overlock batch classify s3://a/b --output s3://a/c --dtype float32"
LARGE = "8589934592"

MISTAKES: list[tuple[str, str, str, str, Any]] = [
    # variant, check, kind, where, what
    ("job on gpus", "command", JOB, f"{CONTAINER}/args/1", "clasify"),
    ("job on gpus", "command", JOB, f"{CONTAINER}/args/2", "photos"),
    ("job on gpus", "command", JOB, f"{CONTAINER}/args/3", "--output=found"),
    ("job on gpus", "command", JOB, f"{CONTAINER}/args/5", "--model=overlock_x"),
    ("job on gpus", "command", JOB, f"{CONTAINER}/args/7", "--decoder-count=7"),
    ("job on gpus", "command", JOB, f"{CONTAINER}/env/1/value", "auto"),
    ("job on gpus", "command", JOB, f"{CONTAINER}/command", ["overlock"]),
    ("ray", "command", RAY, "spec/entrypoint", ENTRYPOINT),
    ("ray", "command", RAY, "spec/entrypoint", f"{ENTRYPOINT} --ray auto --shard 0/8"),
    ("ray", "command", RAY, "spec/entrypoint", f"{ENTRYPOINT} --ray auto --weights $WEIGHTS"),
    ("ray", "command", RAY, f"{GPU_CONTAINER}/args", ["serve"]),
    ("job", "shares", JOB, "spec/completions", 9),
    ("job", "shares", JOB, "spec/parallelism", 9),
    ("job", "shares", JOB, "spec/completionMode", "NonIndexed"),
    ("job", "shares", JOB, f"{CONTAINER}/args/5", "--ray=auto"),
    ("job", "variables", JOB, f"{CONTAINER}/env/0/name", "OVERLOCK_DEVICE"),
    ("job", "variables", JOB, f"{CONTAINER}/env/1/value", "float8"),
    ("job", "variables", JOB, f"{CONTAINER}/env/4/name", "AWS_REGION_NAME"),
    ("job", "variables", JOB, f"{CONTAINER}/env/5", {"name": "AWS_ACCESS_KEY_ID", "value": "a"}),
    ("job", "variables", JOB, f"{POD}/enableServiceLinks", GONE),
    ("ray", "variables", RAY, f"{HEAD_CONTAINER}/env/0/name", "RAY_USAGE_STATS"),
    ("ray", "variables", RAY, f"{GPU_CONTAINER}/env/4/valueFrom/secretKeyRef/key", "secret"),
    ("job", "failures", JOB, "spec/backoffLimitPerIndex", 0),
    ("job", "failures", JOB, f"{CONTAINER}/args/8", "--batch-size=8"),
    ("job", "failures", JOB, "spec/podReplacementPolicy", "TerminatingOrFailed"),
    ("job", "failures", JOB, f"{RULES}/0/action", "Count"),
    ("job", "failures", JOB, f"{RULES}/1/action", "FailJob"),
    ("job", "failures", JOB, f"{RULES}/2/action", "Ignore"),
    ("job", "failures", JOB, f"{RULES}/1/onExitCodes/values", [1, 2]),
    ("job", "failures", JOB, f"{RULES}/1/onExitCodes/containerName", "batch"),
    ("job", "failures", JOB, f"{RULES}/2/onExitCodes/operator", "NotIn"),
    ("job", "failures", JOB, f"{POD}/restartPolicy", "OnFailure"),
    ("ray", "failures", RAY, "spec/backoffLimit", 0),
    ("ray", "failures", RAY, "spec/shutdownAfterJobFinishes", GONE),
    ("ray", "ray", RAY, "spec/rayClusterSpec/rayVersion", "2.59.0"),
    ("ray", "ray", RAY, "spec/rayClusterSpec/authOptions", GONE),
    ("ray", "ray", RAY, f"{GPU}/rayStartParams/object-store-bytes", "1"),
    ("ray", "ray", RAY, f"{HEAD}/rayStartParams/num-cpus", "2"),
    ("ray", "ray", RAY, f"{HEAD}/rayStartParams/dashboard-host", "127.0.0.1"),
    ("ray", "ray", RAY, f"{HEAD_CONTAINER}/ports/1/containerPort", 8000),
    ("ray", "ray", RAY, f"{GPU}/minReplicas", 3),
    ("job", "security", JOB, f"{POD}/securityContext/runAsUser", 0),
    ("job", "security", JOB, f"{CONTAINER}/securityContext/readOnlyRootFilesystem", GONE),
    ("job", "security", "ServiceAccount", "automountServiceAccountToken", True),
    ("ray", "security", RAY, f"{GPU_POD}/automountServiceAccountToken", GONE),
    ("ray", "security", RAY, f"{SUBMITTER}/serviceAccountName", "default"),
    ("job", "volumes", JOB, f"{CONTAINER}/volumeMounts/1", GONE),
    ("job", "volumes", JOB, f"{CONTAINER}/volumeMounts/0/readOnly", True),
    ("ray", "volumes", RAY, f"{HEAD_CONTAINER}/env/1/value", "/cache"),
    ("ray", "volumes", RAY, f"{SUBMITTER}/containers/0/volumeMounts/0/mountPath", "/var/tmp"),
    ("job", "memory", JOB, f"{CONTAINER}/resources/requests/memory", "4Gi"),
    ("job", "memory", JOB, f"{POD}/volumes/2/emptyDir/sizeLimit", "2Gi"),
    ("job", "memory", JOB, f"{POD}/volumes/2/emptyDir/medium", GONE),
    ("ray", "memory", RAY, f"{GPU}/rayStartParams/object-store-memory", LARGE),
    ("ray", "memory", RAY, f"{HEAD_CONTAINER}/resources/limits/memory", "16Gi"),
    ("job", "processors", JOB, f"{CONTAINER}/resources/limits/cpu", "4"),
    ("job", "processors", JOB, f"{CONTAINER}/args/7", "--dtype=float32"),
    ("job", "processors", JOB, f"{CONTAINER}/args/7", "--decoders=4"),
    ("job", "processors", JOB, f"{CONTAINER}/env/3/valueFrom", GONE),
    ("ray", "processors", RAY, f"{GPU_CONTAINER}/resources/limits/cpu", "8"),
    ("job", "devices", JOB, f"{CONTAINER}/env/0/value", "auto"),
    ("job", "devices", JOB, f"{CONTAINER}/env/0/value", "cuda:0"),
    ("job", "devices", JOB, f"{CONTAINER}/image", "overlock-service:0.3.0-cuda"),
    ("job on gpus", "devices", JOB, f"{POD}/tolerations", GONE),
    ("job on gpus", "devices", JOB, f"{CONTAINER}/resources/limits/nvidia.com~gpu", "2"),
    ("ray", "devices", RAY, f"{GPU_CONTAINER}/resources/limits/nvidia.com~gpu", GONE),
    ("ray", "images", RAY, f"{HEAD_CONTAINER}/image", "overlock-service:0.3.0-cpu"),
    ("job", "images", JOB, f"{CONTAINER}/image", "overlock-service"),
    ("ray", "labels", RAY, f"{GPU}/template/metadata/labels", {"app": "overlock"}),
    ("job", "labels", JOB, "spec/template/metadata/labels", {"app": "overlock"}),
    ("job", "network", "NetworkPolicy", "spec/policyTypes", ["Ingress"]),
    ("job", "network", "NetworkPolicy", "spec/ingress", [{}]),
    ("job", "network", "NetworkPolicy", "spec/egress/1/to", GONE),
    ("job", "network", "NetworkPolicy", "spec/egress/2/to", GONE),
    ("ray", "namespaces", RAY, "metadata/namespace", "default"),
]

MISTAKES_OF_RAYS_POLICY: list[tuple[str, Any]] = [
    ("spec/ingress/0/from", [{}]),
    ("spec/ingress/1/from", [{"namespaceSelector": {}}]),
    ("spec/ingress/1/ports/0/port", 6379),
    ("spec/egress/0/to", [{"podSelector": {}}]),
]


def name_of(mistake: tuple[str, str, str, str, Any]) -> str:
    _, check, kind, where, what = mistake
    return f"{check}-{kind}-{where}-{'gone' if what is GONE else what}"


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=name_of)
def test_a_mistake_is_found(mistake: tuple[str, str, str, str, Any]) -> None:
    variant, check, *change = mistake
    assert [*CHECKS[check](changed(batch_manifests(variant), *change))] != []


@pytest.mark.slow
@pytest.mark.parametrize(("where", "what"), MISTAKES_OF_RAYS_POLICY)
def test_a_mistake_of_the_cluster_s_own_policy_is_found(where: str, what: Any) -> None:
    made = batch_manifests("ray")
    common, own = made.all("NetworkPolicy")
    made.objects.remove(common)
    changed(made, "NetworkPolicy", where, what)
    made.objects.insert(made.objects.index(own), common)
    assert [*CHECKS["network"](made)] != []


def test_every_check_has_a_mistake_that_it_finds() -> None:
    assert {check for _, check, *_ in MISTAKES} == CHECKS.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "where", "what"),
    [
        (JOB, "spec/backoffLimitPerindex", 3),
        (JOB, f"{RULES}/0/onPodCondition", []),
        (JOB, f"{RULES}/1/onExitCodes/values", ["2"]),
        (RAY, "spec/entryPoint", "overlock"),
        (RAY, "spec/entrypoint", GONE),
        (RAY, "spec/shutdownAfterJobFinishes", "true"),
        (RAY, "spec/rayClusterSpec/authOptions/mode", "tokens"),
        (RAY, f"{HEAD}/rayStartParams/num-cpus", 0),
        (RAY, f"{GPU}/replica", 2),
        (RAY, f"{GPU}/groupName", GONE),
        (RAY, f"{GPU_CONTAINER}/securityContext/readonlyRootFilesystem", True),
        (RAY, f"{SUBMITTER}/restartpolicy", "Never"),
    ],
)
def test_a_misspelt_field_is_against_the_schema(kind: str, where: str, what: Any) -> None:
    made = batch_manifests("ray" if kind == RAY else "job")
    with pytest.raises(jsonschema.ValidationError):
        validate(changed(made, kind, where, what).one(kind), "1.34")
