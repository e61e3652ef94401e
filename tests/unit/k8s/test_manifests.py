"""The manifests render, follow the schemas, and pass all checks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from support.charts import CHART
from support.manifest_checks import CHECKS
from support.manifest_schemas import KUBERNETES, validate
from support.manifests import K8S, ROOT, VARIANTS, manifests


@pytest.mark.slow
@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_follows_its_schema(variant: str, version: str) -> None:
    for each in manifests(variant).objects:
        validate(each, version)


def test_names_are_unique() -> None:
    for variant in VARIANTS:
        names = [(each["kind"], each["metadata"]["name"]) for each in manifests(variant).objects]
        assert len(names) == len(set(names))


def test_every_file_is_used() -> None:
    used = set()
    for kustomization in K8S.rglob("kustomization.yaml"):
        used |= set(re.findall(r"(?<![\w.])[\w-]+\.(?:yaml|env)", kustomization.read_text("utf-8")))
        used.add(kustomization.name)
    files = {path for path in K8S.rglob("*") if path.is_file()} - {*CHART.rglob("*")}
    assert {path.name for path in files} == used


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_deployment_keeps(variant: str, check: str) -> None:
    assert [*CHECKS[check](manifests(variant))] == []


def test_the_rule_object_holds_the_groups_that_compose_loads() -> None:
    composed = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text("utf-8"))
    assert manifests("gpu with components").one("PrometheusRule")["spec"] == composed


def test_keda_takes_the_place_of_the_autoscaler_and_scales_alike() -> None:
    (own,) = manifests("gpu").all("HorizontalPodAutoscaler")
    assert manifests("gpu").all("ScaledObject") == []
    assert manifests("cpu with components").all("HorizontalPodAutoscaler") == []
    (scaled,) = manifests("cpu with components").all("ScaledObject")
    config = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    assert config["behavior"] == own["spec"]["behavior"]
    assert scaled["spec"]["minReplicaCount"] == own["spec"]["minReplicas"]
    assert scaled["spec"]["maxReplicaCount"] == own["spec"]["maxReplicas"]


def test_other_settings_are_another_rollout() -> None:
    names = {manifests(variant).one("ConfigMap")["metadata"]["name"] for variant in ("cpu", "gpu")}
    assert len(names) == 2
    assert all(re.fullmatch(r"overlock-settings-\w{10}", name) for name in names)


def is_known(command: str) -> bool:
    asked = [sys.executable, "-m", "service.cli", command, "--help"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_service_is_started_by_a_command_that_exists() -> None:
    assert is_known("serve")
    assert not is_known("sevre")


def test_the_weights_are_downloaded_by_a_command_that_exists() -> None:
    assert is_known("download")


def test_the_image_is_what_the_manifests_count_on() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    deployed = manifests("cpu")
    uid = deployed.pod["securityContext"]["runAsUser"]
    assert f"USER {uid}:{deployed.pod['securityContext']['runAsGroup']}\n" in dockerfile
    assert f"EXPOSE {deployed.service['ports'][0]['containerPort']}\n" in dockerfile
    assert f"OVERLOCK_CACHE_DIR={deployed.variables['OVERLOCK_CACHE_DIR']}" in dockerfile
    assert 'ENTRYPOINT ["tini", "--", "overlock"]' in dockerfile
    for variant in ("cpu", "gpu"):
        kind = manifests(variant).service["image"].rpartition("-")[2]
        assert f" AS system-{kind}\n" in dockerfile


def test_images_have_the_version_that_the_project_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for path in K8S.rglob("*.yaml"):
        tags = re.findall(r"(?:newTag: |image: overlock-service:)(\S+)", path.read_text("utf-8"))
        assert {*tags} <= {f"{project['version']}-{variant}" for variant in ("cpu", "cuda")}, path
