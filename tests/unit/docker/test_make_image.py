"""`make image` and `make pin-base`, with a program in the place of Docker."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.documents import ROOT, text_of

DIGEST = f"sha256:{'ab' * 32}"
ENGINE = f"""#!/bin/sh
echo "$@" >> calls
case "$*" in
    *imagetools*) echo {DIGEST} ;;
    run*) echo '{{"bomFormat": "CycloneDX"}}' ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "Dockerfile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    engine = tmp_path / "engine"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def make(folder: Path, *words: str) -> list[str]:
    """Run a target and return what the engine was asked for."""
    command = ["make", "--silent", f"ENGINE={folder}/engine", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "calls").read_text().splitlines()


def test_the_base_gets_its_digest_and_then_a_newer_one(folder: Path) -> None:
    dockerfile = folder / "Dockerfile"
    (tag,) = re.findall(r"^ARG BASE_IMAGE=([^@\n]+)", text_of("Dockerfile"), re.MULTILINE)
    make(folder, "pin-base")
    (asked, _) = make(folder, "pin-base")
    assert asked.startswith(f"buildx imagetools inspect {tag} ")
    assert f"\nARG BASE_IMAGE={tag}@{DIGEST}\n" in dockerfile.read_text()


def test_a_list_of_packages_is_written_beside_the_image(folder: Path) -> None:
    build, run = make(folder, "image", "TORCH_VARIANT=cpu", "SOURCE=https://git.example.com/o")
    assert build.startswith("build --tag overlock-service:cpu ")
    assert "--build-arg SOURCE=https://git.example.com/o" in build
    assert "--build-arg CUDA=" not in build
    assert run.endswith("overlock-service:cpu /opt/overlock/sbom.cdx.json")
    assert "CycloneDX" in (folder / "overlock-service-cpu.cdx.json").read_text()


def test_an_image_for_another_cuda_takes_torch_from_its_index(folder: Path) -> None:
    index = "https://download.pytorch.org/whl/cu126"
    build, _ = make(folder, "image", f"TORCH_INDEX={index}", "CUDA=12.6")
    assert f"--build-arg TORCH_INDEX={index} --build-arg CUDA=12.6 " in build


def test_every_argument_is_one_of_the_dockerfiles(folder: Path) -> None:
    words = ("image", "TORCH_INDEX=https://example.com", "CUDA=12.6", "SOURCE=https://example.com")
    build, _ = make(folder, *words)
    declared = set(re.findall(r"^ARG (\w+)", text_of("Dockerfile"), re.MULTILINE))
    assert set(re.findall(r"--build-arg (\w+)=", build)) <= declared
