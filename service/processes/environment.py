"""Variables that make PyTorch's process faster; the operator's own values win over them."""

from __future__ import annotations

import gc
import os

SPIN_COUNT = {"GOMP_SPINCOUNT": "2000"}
"""For torch's threads: one that waits for another soon yields its core. Spinning on, as is the
default, makes a forward pass many times slower as soon as anything else wants a core."""

KEPT_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
}
"""For glibc: memory that one layer freed serves the next one. By default every large map is new
memory, which the kernel clears page by page: 27,000 times in a forward pass of eight images. What
is kept at the most is the second threshold, in one arena, since the device has its own thread."""


def engine_environment() -> dict[str, str]:
    """Return what an engine's process gets, beside its settings."""
    wanted = SPIN_COUNT | KEPT_MEMORY
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


YOUNG_OBJECTS = 20_000
"""New ones until a collection; by default 700, which is every few requests."""


def freeze_heap() -> None:
    """Leave what is there now out of all collections to come, and collect seldom.

    A process that has started holds some hundred thousand objects which it keeps until it ends. To
    look through them again and again takes a few percent of what a request costs, and the whole
    event loop waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
