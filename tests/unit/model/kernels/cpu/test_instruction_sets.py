"""A processor runs the builds whose instructions it has, the fastest first."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from model.kernels.cpu.instruction_sets import processor_features, runnable_instruction_sets

HASWELL = "fpu sse4_2 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
SKYLAKE_SERVER = HASWELL + " avx512f avx512bw avx512cd avx512dq avx512vl"
ZEN_4 = SKYLAKE_SERVER + " avx512_bf16 avx512vbmi"


@pytest.fixture(autouse=True)
def an_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def names(flags: str) -> list[str]:
    return [each.name for each in runnable_instruction_sets(frozenset(flags.split()))]


def test_processors_of_x86() -> None:
    assert names("fpu sse4_2 avx") == []
    assert names(HASWELL) == ["x86-64-v3"]
    assert names(SKYLAKE_SERVER) == ["x86-64-v4", "x86-64-v3"]
    assert names(ZEN_4) == ["x86-64-v4-bf16", "x86-64-v4", "x86-64-v3"]


def test_a_processor_of_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert names("fp asimd") == ["armv8-a"]


def test_a_machine_that_nothing_is_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert names("") == []


@pytest.mark.parametrize("key", ["flags", "Features"])
def test_features_are_the_kernels_words(tmp_path: Path, key: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{key}\t\t: fpu avx2\n\nprocessor\t: 1\n{key}\t\t: fpu\n")
    assert processor_features(cpuinfo) == {"fpu", "avx2"}


def test_a_system_that_does_not_say_has_none(tmp_path: Path) -> None:
    assert processor_features(tmp_path / "cpuinfo") == set()
