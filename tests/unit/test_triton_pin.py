"""The Triton that is tested is the one that ships: what the CUDA build of torch requires."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

import pytest

from support.locks import TORCH, locked


def test_the_tests_have_the_images() -> None:
    assert locked("development.lock")["triton"] == locked("cuda.lock")["triton"]


def test_the_images_is_what_torchs_own_metadata_says() -> None:
    lines = [line for line in requires("torch") or [] if line.startswith("triton")]
    if not lines:
        pytest.skip("this torch is a CPU build, whose metadata names no Triton")
    if version("torch").partition("+")[0] != TORCH:
        pytest.skip("another torch than the locks' is installed")
    assert lines[0].partition(";")[0].strip() == f"triton=={locked('cuda.lock')['triton']}"


def test_the_installed_one_is_the_pinned_one() -> None:
    if version("torch").partition("+")[0] != TORCH:
        pytest.skip("another torch than the locks' is installed")
    try:
        installed = version("triton")
    except PackageNotFoundError:
        pytest.skip("Triton is not installed")
    assert installed == locked("development.lock")["triton"]
