"""What is in the image: `make test-image` builds it, by its TORCH_VARIANT."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from service.settings import PREFIX, Settings
from support.image_build import ROOT, VARIANT, ImageStore, build_arguments
from support.locks import TORCH, locked, normalised

FACTS = build_arguments()
CHANGED = "localhost/overlock-changed"

LARGEST_BYTES = {"cpu": 1_500_000_000, "cuda": 5_500_000_000}[VARIANT]
"""Largest image on this test's base; docker/README.md lists what it is made of."""

# Without the first build, which takes as long as the machine and its mirrors do.
pytestmark = pytest.mark.timeout(1200, func_only=True)


def packages_of(root: Path) -> Path:
    (packages,) = root.glob("opt/overlock/lib/python3*/site-packages")
    return packages


def versions_in(root: Path) -> dict[str, str]:
    installed = distributions(path=[str(packages_of(root))])
    return {normalised(each.name): each.version for each in installed}


def test_the_image_says_what_it_is_and_how_it_runs(store: ImageStore) -> None:
    configuration = store.configuration
    assert configuration["User"] == "10001:10001"
    assert list(configuration["ExposedPorts"]) == ["8000/tcp"]
    assert [*configuration["Entrypoint"], *configuration["Cmd"]] == [
        *("tini", "--"),
        *("overlock", "serve"),
    ]
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == "overlock-service"
    assert labels["org.opencontainers.image.version"] == FACTS["VERSION"]
    assert labels["org.opencontainers.image.revision"] == FACTS["REVISION"]
    assert labels["org.opencontainers.image.source"] == FACTS["SOURCE"]
    assert labels["org.opencontainers.image.base.name"].endswith("overlock-base")
    said = {name.removeprefix("org.opencontainers.image.") for name in labels}
    assert said >= {"created", "description", "documentation", "licenses", "url"}


def test_it_holds_the_service_and_nothing_else_of_the_repository(root: Path) -> None:
    packages = packages_of(root)
    assert (packages / "model" / "demo" / "weights" / "overlock_nano.safetensors").exists()
    assert (packages / "service" / "cli.py").exists()
    for name in ("tests", "benchmarks", "pip", "pytest", "ruff", "mypy"):
        assert not (packages / name).exists(), name
    assert not list(root.glob("source/*"))


def test_it_holds_the_locks_versions(root: Path) -> None:
    found = versions_in(root)
    assert found.pop("overlock-service") == FACTS["VERSION"]
    assert found.pop("torch").partition("+")[0] == TORCH
    assert found == locked("runtime.lock") | (locked("cuda.lock") if VARIANT == "cuda" else {})


def test_it_holds_nothing_that_no_service_loads(root: Path) -> None:
    unused = ("tests", "torch/include", "libcusolverMg*", "libnvrtc*.alt.*", "backends/amd")
    assert [path for pattern in unused for path in packages_of(root).rglob(pattern)] == []


def test_its_list_of_packages_names_all_of_them(root: Path) -> None:
    document = json.loads((root / "opt/overlock/sbom.cdx.json").read_text("utf-8"))
    listed = {each.get("purl", "").partition("?")[0] for each in document["components"]}
    for name, version in versions_in(root).items():
        is_ours = name == "overlock-service"  # which no index has
        assert is_ours or f"pkg:pypi/{name}@{version.replace('+', '%2B')}" in listed
    assert any(each.startswith("pkg:deb/debian/tini@") for each in listed)


@pytest.fixture(scope="module")
def changed(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the image again, with gRPC, and with a lock that has lost a package."""
    context = tmp_path_factory.mktemp("changed")
    for name in ("model", "service", "requirements", "docker"):
        shutil.copytree(ROOT / name, context / name)
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, context)
    lock = context / "requirements" / "runtime.lock"
    text = lock.read_text("utf-8")
    lock.write_text(re.sub(r"^tqdm==.*\n(?:    .*\n)+", "", text, flags=re.MULTILINE))
    assert lock.read_text("utf-8") != text
    store.build(FACTS | {"EXTRAS": "grpc"}, CHANGED, context)
    with store.mounted(CHANGED) as root:
        yield root


def test_a_changed_lock_changes_what_is_installed(changed: Path) -> None:
    assert "tqdm" in locked("runtime.lock")
    assert "tqdm" not in versions_in(changed)


def test_a_changed_lock_leaves_torchs_layer(store: ImageStore, changed: Path) -> None:
    assert changed.exists()
    before, after = store.layer_digests(), store.layer_digests(CHANGED)
    base_system_user_torch = 4
    assert before[:base_system_user_torch] == after[:base_system_user_torch]
    assert before[base_system_user_torch] != after[base_system_user_torch]


def test_an_extra_has_the_locks_versions(changed: Path) -> None:
    found, extras = versions_in(changed), locked("extras.lock")
    assert {"grpcio", "grpcio-health-checking", "grpcio-reflection"} <= found.keys()
    assert {each: found[each] for each in found.keys() & extras} == {
        each: extras[each] for each in found.keys() & extras
    }


@pytest.mark.skipif(VARIANT != "cpu", reason="an image for GPUs has a compiler, which Triton needs")
def test_it_holds_no_compiler(root: Path) -> None:
    for folder in ("usr/bin", "usr/local/bin", "opt/overlock/bin"):
        for name in ("cc", "gcc", "clang", "g++", "ld", "make"):
            assert not (root / folder / name).exists(), f"{folder}/{name}"


def test_its_size_has_a_limit(store: ImageStore) -> None:
    layers = store.layers()
    print("\n  MB  packed")
    for layer in layers:
        instruction = re.sub(r".*/bin/sh -c |--mount=\S+ +", "", layer.created_by)
        instruction = re.sub(r" +", " ", instruction)[:88]
        print(f"{layer.bytes / 1e6:4.0f} {layer.packed_bytes / 1e6:7.1f}  {instruction}")
    size_bytes = sum(layer.bytes for layer in layers)
    print(f"{size_bytes / 1e6:4.0f} {sum(layer.packed_bytes for layer in layers) / 1e6:7.1f}")
    assert size_bytes < LARGEST_BYTES


@pytest.mark.skipif(VARIANT != "cuda", reason="the image is for CPUs")
def test_it_states_the_driver_that_it_needs(store: ImageStore) -> None:
    assert "NVIDIA_REQUIRE_CUDA=cuda>=13.0" in store.configuration["Env"]


def test_its_variables_are_settings(store: ImageStore) -> None:
    environment: dict[str, Any] = dict(
        variable.split("=", 1) for variable in store.configuration["Env"]
    )
    ours = {name for name in environment if name.startswith(PREFIX)}
    assert ours == {"OVERLOCK_HOST", "OVERLOCK_CACHE_DIR"}
    assert {name.removeprefix(PREFIX).lower() for name in ours} <= Settings.model_fields.keys()
