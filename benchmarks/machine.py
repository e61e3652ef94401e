"""Description of the machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")
"""Without these, PyTorch computes bfloat16 in plain loops, many times slower than float32."""


def describe_machine(load_at_start: tuple[float, float, float], threads: int) -> dict[str, str]:
    """Describe the machine; the load averages show whether it was quiet."""
    facts = processor_facts()
    flags = facts.get("flags", "").split()
    vectors = [flag for flag in ("avx2", "avx512f", *BFLOAT16_FLAGS) if flag in flags]
    name = facts.get("model name", platform.processor() or platform.machine())
    return {
        "processor": f"{name}, {os.cpu_count()} logical cores",
        "vector instructions": ", ".join(vectors) or "unknown",
        "bfloat16 instructions": "yes" if set(flags) & set(BFLOAT16_FLAGS) else "none known",
        "threads": str(threads),
        "versions": f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        "load average at the start": format_load(load_at_start),
        "load average at the end": format_load(os.getloadavg()),
    }


def processor_facts() -> dict[str, str]:
    """Read Linux's facts about the last processor; empty on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {fact.strip(): value.strip() for fact, _, value in pairs}


def format_load(load: tuple[float, float, float]) -> str:
    return " ".join(f"{average:.2f}" for average in load)


def own_peak_bytes() -> int:
    """Return the most memory that this process has held.

    Not ``ru_maxrss``, in which a process begins with what its parent held.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
