"""The manifests for batch work render, follow their schemas, and pass all checks."""

from __future__ import annotations

import json

import pytest

from support.batch_manifest_checks import CHECKS
from support.batch_manifests import VARIANTS, batch_manifests
from support.manifest_schemas import KUBERNETES, SCHEMAS, validate
from support.manifests import K8S, ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_follows_its_schema(variant: str, version: str) -> None:
    for each in batch_manifests(variant).objects:
        validate(each, version)


def test_kuberays_own_object_is_validated_by_its_schema() -> None:
    assert SCHEMAS["rayjob"]["properties"]["apiVersion"]["const"] == "ray.io/v1"
    text = json.dumps(SCHEMAS["rayjob"])
    # Every object with fields of its own refuses others.
    assert text.count('"properties": {') == text.count('"additionalProperties": false')


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_pods_that_kuberay_makes_follow_kubernetes_schema(version: str) -> None:
    for template in batch_manifests("ray").templates:
        metadata = {"name": "made", **template["metadata"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        validate(pod, version)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_work_keeps(variant: str, check: str) -> None:
    assert [*CHECKS[check](batch_manifests(variant))] == []


def test_every_folder_is_rendered() -> None:
    folders = {f"batch/{path.name}" for path in (K8S / "batch").iterdir()}
    assert folders == {"batch/base", *(name for names in VARIANTS.values() for name in names)}


def test_names_are_unique() -> None:
    for variant in VARIANTS:
        found = batch_manifests(variant).objects
        names = [(each["kind"], each["metadata"]["name"]) for each in found]
        assert len(names) == len(set(names))


def test_the_image_is_what_the_manifests_count_on() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    made = batch_manifests("job")
    pod = made.templates[0]["spec"]
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{pod['securityContext']['runAsGroup']}\n" in dockerfile
    assert 'ENTRYPOINT ["tini", "--", "overlock"]' in dockerfile
    # Ray and its libraries write below their user's home.
    (mount,) = [each for each in made.containers[0]["volumeMounts"] if each["name"] == "cache"]
    assert f"--home-dir {mount['mountPath']} " in dockerfile
    for variant in VARIANTS:
        for container in batch_manifests(variant).containers:
            assert f" AS system-{container['image'].rpartition('-')[2]}\n" in dockerfile
