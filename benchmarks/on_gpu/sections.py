"""The sections of the two runs, in their order, and their budgets."""

from __future__ import annotations

from benchmarks.on_gpu import (
    caches,
    classifiers,
    dense,
    endurance,
    http,
    kernels,
    network_checks,
    profile,
    served,
    smoke,
    starts,
    switches,
)
from benchmarks.on_gpu.bench import Section

RUN_SECONDS = 330.0
"""Seconds after which a run has ended, whatever its sections do."""

_PACKED = Section("caches", "Compiled code, packed", 10, caches.rows, is_last_duty=True)

RUNS: dict[str, tuple[Section, ...]] = {
    "A": (
        Section("smoke", "New kernels and tiny networks", 45, smoke.rows, is_gate=True),
        Section(
            "served",
            "As an engine serves it: pixels in, logits out",
            150,
            served.rows,
            served.release,
        ),
        Section("profile", "Where the time goes, as served", 10, profile.rows, served.release),
        Section("dense", "Segmenter and detector, as served", 70, dense.rows),
        Section("network-checks", "Networks against the CPU", 30, network_checks.rows),
        _PACKED,
    ),
    "B": (
        Section("switches", "Other settings of the compiler", 90, switches.rows, own_process=True),
        Section(
            "endurance", "Thousands of batches of mixed shapes", 50, endurance.rows, served.release
        ),
        Section("kernels", "Kernels against the memory's roofline", 20, kernels.rows),
        Section("classifiers", "Other classifiers, images a second", 25, classifiers.rows),
        Section("starts", "From a process's start to its first answers", 30, starts.rows),
        Section(
            "http",
            "The whole service, saturated, beside the bare engine",
            100,
            http.rows,
            own_process=True,
        ),
        _PACKED,
    ),
}
"""A has what decides, B what is nice to know; the most important sections come first."""

SECTIONS = {section.name: section for sections in RUNS.values() for section in sections}
"""By name, for the processes that run them."""
