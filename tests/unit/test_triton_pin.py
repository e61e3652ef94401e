"""The Triton that is tested is the one that ships: what the CUDA build of torch requires."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version

import pytest

from support.documents import text_of

REQUIRED = {"2.13.0": "3.7.1"}
"""Triton by torch, from the metadata of its CUDA build. A new torch needs a new line."""


def pinned(package: str, document: str) -> str:
    (found,) = re.findall(rf"\b{package}==([\d.]+)$", text_of(document), flags=re.MULTILINE)
    return str(found)


def test_the_makefile_installs_what_the_locks_torch_requires() -> None:
    assert pinned("triton", "Makefile") == REQUIRED[pinned("torch", "requirements.lock")]


def test_the_table_is_what_torchs_own_metadata_says() -> None:
    lines = [line for line in requires("torch") or [] if line.startswith("triton")]
    if not lines:
        pytest.skip("this torch is a CPU build, whose metadata names no Triton")
    release = version("torch").partition("+")[0]
    assert lines[0].partition(";")[0].strip() == f"triton=={REQUIRED[release]}"


def test_the_installed_one_is_the_pinned_one() -> None:
    if version("torch").partition("+")[0] != pinned("torch", "requirements.lock"):
        pytest.skip("another torch than the lock's is installed")
    try:
        installed = version("triton")
    except PackageNotFoundError:
        pytest.skip("Triton is not installed")
    assert installed == pinned("triton", "Makefile")
