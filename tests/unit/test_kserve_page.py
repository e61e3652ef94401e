"""docs/kserve.md agrees with k8s/kserve, and its examples render and pass the checks."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from service.settings import PREFIX, Settings
from support.documents import blocks, text_of
from support.kserve_checks import CHECKS
from support.kserve_manifests import KServeManifests, kserve_manifests
from support.manifest_cluster_checks import complaints_about
from support.manifest_schemas import validate
from support.manifests import K8S, kubectl

PAGE = text_of("docs/kserve.md")
NAMED = re.findall(r"^\| `k8s/kserve/([\w-]+)` \|", PAGE, re.MULTILINE)


def overlaid(folder: Path, kustomization: str) -> KServeManifests:
    # Kustomize takes relative paths alone.
    up = "../" * len(folder.resolve().parts[1:]) + str(K8S).lstrip("/")
    (folder / "kustomization.yaml").write_text(kustomization.replace("- ../", f"- {up}/"))
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=True
    )
    return KServeManifests([*yaml.safe_load_all(done.stdout)])


def test_every_folder_is_in_the_table() -> None:
    assert sorted(NAMED) == sorted(path.name for path in (K8S / "kserve").iterdir())


@pytest.mark.slow
def test_the_overlay_renders_and_passes_all_checks(tmp_path: Path) -> None:
    overlay, _ = blocks("docs/kserve.md", "yaml")
    made = overlaid(tmp_path, overlay)
    for each in made.objects:
        validate(each, "1.34")
    assert {name: [*check(made)] for name, check in CHECKS.items() if [*check(made)]} == {}
    assert made.container["image"] == "registry.example.com/overlock-service:0.3.0-cuda"
    assert made.predictor["model"]["storageUri"] == "s3://our-models/birds"


def test_a_further_inference_service_has_what_the_base_gives_pods() -> None:
    _, further = blocks("docs/kserve.md", "yaml")
    made = yaml.safe_load(further)
    validate(made, "1.34")
    predictor, base = made["spec"]["predictor"], kserve_manifests().predictor
    own = {key: value for key, value in predictor.items() if key != "model"}
    assert own.items() <= base.items()
    assert base.keys() - predictor.keys() == {"deploymentStrategy", "maxReplicas"}
    assert predictor["model"] == base["model"] | {"storageUri": "s3://our-models/moths"}


def test_every_section_that_manifests_name_exists() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for path in (K8S / "kserve").rglob("*.yaml"):
        named = re.findall(r"docs/kserve\.md#([\w-]+)", path.read_text("utf-8"))
        assert {*named} <= anchors, path


def test_commands_name_what_the_manifests_make() -> None:
    made = kserve_manifests()
    assert {*re.findall(r" -n (\S+)", PAGE)} == {made.one("Namespace")["metadata"]["name"]}
    assert {*re.findall(r"inferenceservice[/ ](\w+)", PAGE)} == {made.name}
    assert {*re.findall(r"service/([\w-]*predictor)", PAGE)} == {f"{made.name}-predictor"}
    patches = re.findall(r"-p '(.*?)'", PAGE)
    assert all("canaryTrafficPercent" in patch and json.loads(patch) for patch in patches)


def test_numbers_are_those_of_the_manifests() -> None:
    knative = kserve_manifests("knative").predictor
    assert f"requests under way, {knative['scaleTarget']} (one batch)" in PAGE
    assert f"`containerConcurrency` is {knative['containerConcurrency']}" in PAGE
    assert kserve_manifests("knative", "canary").predictor["canaryTrafficPercent"] == 10
    assert "a tenth of the requests" in PAGE


def test_variables_are_settings_and_metrics_are_exported() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert {*re.findall(rf"\b{PREFIX}[A-Z_]+\w", PAGE)} <= known
    for name in set(re.findall(r"\boverlock_\w+", PAGE)):
        assert [*complaints_about(name)] == []
