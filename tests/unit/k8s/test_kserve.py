"""The manifests for KServe render, follow its schemas, and pass all checks."""

from __future__ import annotations

import json

import pytest

from support.kserve_checks import CHECKS
from support.kserve_manifests import COMPONENTS, MODELS, kserve_manifests, service_links
from support.manifest_schemas import KUBERNETES, SCHEMAS, validate
from support.manifests import K8S


@pytest.mark.slow
@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("variant", COMPONENTS)
def test_every_object_follows_its_schema(variant: str, version: str) -> None:
    for each in kserve_manifests(*COMPONENTS[variant]).objects:
        validate(each, version)


def test_kserves_own_objects_are_validated_by_its_schemas() -> None:
    for kind in ("servingruntime", "inferenceservice"):
        assert "serving.kserve.io/" in SCHEMAS[kind]["properties"]["apiVersion"]["const"]
        text = json.dumps(SCHEMAS[kind])
        # Every object with fields of its own refuses others.
        assert text.count('"properties": {') == text.count('"additionalProperties": false')


@pytest.mark.slow
@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("variant", [name for name in COMPONENTS if "knative" not in name])
def test_the_pods_that_kserve_makes_follow_kubernetes_schema(variant: str, version: str) -> None:
    made = kserve_manifests(*COMPONENTS[variant]).as_deployed()
    validate(made.one("Deployment"), version)


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("variant", COMPONENTS)
def test_a_deployment_by_kserve_keeps(variant: str, check: str) -> None:
    assert [*CHECKS[check](kserve_manifests(*COMPONENTS[variant]))] == []


def test_every_component_is_rendered() -> None:
    folders = {path.name for path in (K8S / "kserve").iterdir()} - {"base"}
    assert folders == {name for names in COMPONENTS.values() for name in names}


def test_names_are_unique() -> None:
    for components in COMPONENTS.values():
        found = kserve_manifests(*components).objects
        names = [(each["kind"], each["metadata"]["name"]) for each in found]
        assert len(names) == len(set(names))


def test_the_variables_are_filled_as_kserve_and_the_kubelet_do_it() -> None:
    environment = kserve_manifests("gpu").environment
    assert environment["OVERLOCK_MODEL_NAME"] == "overlock"
    assert environment["OVERLOCK_MODELS_FILE"] == MODELS
    assert environment["OMP_NUM_THREADS"] == "6"


def test_a_predictors_service_sets_variables_with_our_prefix() -> None:
    links = service_links(kserve_manifests().name)
    assert {name.split("_PREDICTOR_")[0] for name in links} == {"OVERLOCK"}
    assert links["OVERLOCK_PREDICTOR_PORT"] == "tcp://10.96.0.17:80"


def test_a_canary_is_another_model_than_the_one_before() -> None:
    before, after = kserve_manifests("knative"), kserve_manifests("knative", "canary")
    assert before.predictor["model"]["storageUri"] != after.predictor["model"]["storageUri"]
    assert before.runtime == after.runtime
