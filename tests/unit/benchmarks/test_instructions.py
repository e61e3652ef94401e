"""A limit holds for our kernels, PyTorch and oneDNN alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.instructions import LIMITS, use_limited_kernels
from model.kernels.cpu.instruction_sets import INSTRUCTION_SETS, runnable_instruction_sets
from model.kernels.cpu.library import native_library
from model.kernels.cpu.ops import lanes
from support.native_kernels import forget

BUILDS = {build.name: build for build in INSTRUCTION_SETS}


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_the_kernels_of_a_limit_are_loaded(tmp_path: Path, name: str) -> None:
    build = BUILDS[LIMITS[name].build]
    if build not in runnable_instruction_sets():
        pytest.skip(f"This processor does not run {build.name}")
    use_limited_kernels(name, tmp_path)
    assert bool(native_library().overlock_paired()) == (name == "avx512_bf16")
    assert lanes() == (8 if name == "avx2" else 16)


def test_every_build_of_x86_has_a_limit() -> None:
    builds = [build.name for build in INSTRUCTION_SETS if build.machine == "x86_64"]
    assert [limit.build for limit in LIMITS.values()] == builds[::-1]


def test_a_limit_names_the_instructions_that_its_build_needs() -> None:
    for name, limit in LIMITS.items():
        features = BUILDS[limit.build].features
        assert ("avx512f" in features) == limit.environment["ONEDNN_MAX_CPU_ISA"].startswith(
            "AVX512"
        )
        assert ("avx512_bf16" in features) == limit.environment["ONEDNN_MAX_CPU_ISA"].endswith(
            "BF16"
        )
        assert (name in features) or name == "avx512"
