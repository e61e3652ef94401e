"""The instruction sets that our CPU kernels are compiled for where a compiler cannot come along.

An image ships one build for each, and the processor that it runs on decides which is loaded.
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
    """What a build may use.

    Attributes:
        name: part of the build's file name.
        machine: as ``platform.machine`` says it.
        flags: the compiler's.
        features: what a processor must have, in the words of ``/proc/cpuinfo``.
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
"""The fastest of each machine first."""


def runnable_instruction_sets(features: frozenset[str] | None = None) -> list[InstructionSet]:
    """Return what this machine's processor can run, the fastest first.

    Args:
        features: the processor's; by default what the kernel says that it has and may be used.
    """
    has = processor_features() if features is None else features
    return [each for each in of_this_machine() if each.features <= has]


def of_this_machine() -> list[InstructionSet]:
    """Return the instruction sets of this kind of machine, whatever its processor can run."""
    return [each for each in INSTRUCTION_SETS if each.machine == platform.machine()]


def processor_features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the names of what the processor can do; none where the kernel does not say."""
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()
