"""Instruction sets that the CPU kernels are prebuilt for, for machines without a compiler.

A container image ships one build for each and loads the fastest that its processor can run.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_V3 = frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@dataclass(frozen=True)
class InstructionSet:
    """Instructions that a build may use.

    Attributes:
        name: part of the build's file name.
        machine: the value of ``platform.machine()``.
        flags: compiler flags.
        features: required processor features, as named in ``/proc/cpuinfo``.
    """

    name: str
    machine: str
    flags: tuple[str, ...]
    features: frozenset[str]


INSTRUCTION_SETS = (
    InstructionSet(
        "x86-64-v4-bf16",
        "x86_64",
        ("-march=x86-64-v4", "-mavx512bf16"),
        _V4 | {"avx512_bf16"},
    ),
    InstructionSet("x86-64-v4", "x86_64", ("-march=x86-64-v4",), _V4),
    InstructionSet("x86-64-v3", "x86_64", ("-march=x86-64-v3",), _V3),
    InstructionSet("armv8-a", "aarch64", ("-march=armv8-a",), frozenset()),
)
"""The fastest first, for each kind of machine."""


def runnable_instruction_sets(features: frozenset[str] | None = None) -> list[InstructionSet]:
    """Return the instruction sets that this machine's processor can run, the fastest first.

    Args:
        features: of the processor; by default those in ``/proc/cpuinfo``.
    """
    available = processor_features() if features is None else features
    return [
        candidate for candidate in machine_instruction_sets() if candidate.features <= available
    ]


def machine_instruction_sets() -> list[InstructionSet]:
    """Return the instruction sets of this kind of machine, runnable by its processor or not."""
    machine = platform.machine()
    return [candidate for candidate in INSTRUCTION_SETS if candidate.machine == machine]


def processor_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the names of the processor's features; none if ``cpuinfo`` does not list them."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()
