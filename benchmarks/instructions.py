"""Limits on the instructions that a network's process may use: older processors on a newer one.

Clock and caches stay this machine's, so it is the instructions alone that are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.kernels.cpu import library
from model.kernels.cpu.instruction_sets import INSTRUCTION_SETS

CACHE = Path.home() / ".cache" / "overlock-service" / "limited-kernels"


@dataclass(frozen=True)
class Limit:
    """Instructions that a process may use.

    Attributes:
        build: of our kernels, a name of ``INSTRUCTION_SETS``.
        environment: variables that tell oneDNN, MKL and PyTorch, to be set before they are loaded.
    """

    build: str
    environment: dict[str, str]


LIMITS = {
    "avx2": Limit(
        "x86-64-v3",
        {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
        },
    ),
    "avx512": Limit(
        "x86-64-v4",
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"},
    ),
    "avx512_bf16": Limit(
        "x86-64-v4-bf16",
        {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16", "ATEN_CPU_CAPABILITY": "avx512"},
    ),
}
"""By the newest instructions that are allowed."""


def use_limited_kernels(limit: str, folder: Path = CACHE) -> None:
    """Make the kernels for a limit this process's, which has used none yet.

    Args:
        limit: a name of ``LIMITS``.
        folder: where they are kept once they are compiled.
    """
    assert not library._loaded
    (build,) = (each for each in INSTRUCTION_SETS if each.name == LIMITS[limit].build)
    folder.mkdir(parents=True, exist_ok=True)
    kernels = folder / library._prebuilt_name(build)
    if not kernels.exists():
        library.compile_library(kernels, build.flags)
    library._loaded.append(library._load(kernels))
