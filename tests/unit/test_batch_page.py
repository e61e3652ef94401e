"""docs/batch.md agrees with k8s/batch, and its overlay renders and passes the checks."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from support.batch_manifest_checks import CHECKS, SECRETS
from support.batch_manifests import BatchManifests, batch_manifests
from support.documents import ROOT, blocks, text_of
from support.manifest_schemas import validate
from support.manifests import K8S, kubectl

PAGE = text_of("docs/batch.md")


def overlaid(folder: Path, kustomization: str) -> BatchManifests:
    # Kustomize takes relative paths alone.
    up = "../" * len(folder.resolve().parts[1:]) + str(K8S).lstrip("/")
    (folder / "kustomization.yaml").write_text(kustomization.replace("- ../", f"- {up}/"))
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=True
    )
    return BatchManifests([*yaml.safe_load_all(done.stdout)])


def test_every_folder_is_in_the_table() -> None:
    named = re.findall(r"^\| `k8s/batch/([\w-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (K8S / "batch").iterdir())


@pytest.mark.slow
def test_the_overlay_renders_and_passes_all_checks(tmp_path: Path) -> None:
    (overlay,) = blocks("docs/batch.md", "yaml")
    made = overlaid(tmp_path, overlay)
    for each in made.objects:
        validate(each, "1.34")
    assert {name: [*check(made)] for name, check in CHECKS.items() if [*check(made)]} == {}
    assert made.containers[0]["image"] == "registry.example.com/overlock-service:0.3.0-cuda"
    assert made.arguments.output == "s3://our-bucket/vectors"


def test_every_section_that_manifests_name_exists() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for path in (K8S / "batch").rglob("*.yaml"):
        named = re.findall(r"docs/batch\.md#([\w-]+)", path.read_text("utf-8"))
        assert {*named} <= anchors, path


@pytest.mark.slow
def test_commands_name_what_the_manifests_make() -> None:
    made = batch_manifests("job")
    assert {*re.findall(r" -n (\S+)", PAGE)} == {made.one("Namespace")["metadata"]["name"]}
    named = {*re.findall(r"\bjob[/ ](overlock[\w-]*)", PAGE)}
    assert named == {made.one("Job")["metadata"]["name"]}
    secrets = {
        each["valueFrom"]["secretKeyRef"]["name"]
        for each in made.containers[0]["env"]
        if each["name"] in SECRETS
    }
    assert {*re.findall(r"create secret generic (\S+)", PAGE)} == secrets
    assert {*re.findall(r"--from-literal=(\w+)=", PAGE)} == SECRETS
    (access,) = set(re.findall(r"label namespace \S+ (\S+)=true", PAGE))
    assert access in str(batch_manifests("ray").all("NetworkPolicy"))


@pytest.mark.slow
def test_numbers_are_those_of_the_manifests() -> None:
    job, ray = batch_manifests("job"), batch_manifests("ray")
    assert job.job["completions"] == 8
    assert "an Indexed Job: eight shares" in PAGE
    assert job.job["backoffLimitPerIndex"] == 4
    assert "tries the share again, four times" in PAGE
    assert [group["replicas"] for group in ray.groups[1:]] == [2, 2]
    assert "two machines with a GPU and two that decode" in PAGE
    assert ray.job["backoffLimit"] == 2
    assert "begins with another one, twice" in PAGE


def test_images_are_built_with_extras_that_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = {name for words in re.findall(r'EXTRAS="([^"]*)"', PAGE) for name in words.split()}
    assert named == {"batch", "cloud", "cluster"}
    assert named <= extras.keys()
    # One Ray for the command and for its cluster's machines.
    bounds = {each.split("]")[1] for name in named for each in extras[name] if "ray[" in each}
    assert len(bounds) == 1
