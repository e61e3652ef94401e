"""How the simulated engine, a process of its own, is told what its device costs."""

from __future__ import annotations

COST_VARIABLE = "BENCHMARK_DEVICE_SECONDS"
"""Environment variable: the fixed and the per-image seconds, with a comma between them."""
