"""The environment variable that passes the device's cost to the simulated engine's process."""

from __future__ import annotations

COST_VARIABLE = "BENCHMARK_DEVICE_SECONDS"
"""Holds the fixed and the per-image seconds, with a comma between them."""
