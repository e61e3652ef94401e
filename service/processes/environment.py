"""Tuning of a long-lived process: an engine's environment, and garbage collection."""

from __future__ import annotations

import gc
import os

SPIN_COUNT = {"GOMP_SPINCOUNT": "2000"}
"""For torch's threads: one that waits for another soon yields its core. By default it spins, which
makes a forward pass many times slower as soon as another process needs a core."""

KEPT_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
}
"""For glibc: memory that one layer freed is reused by the next one. By default every large feature
map is new memory, which the kernel clears page by page: 27,000 pages in a forward pass of eight
images. The trim threshold bounds the memory kept; one arena suffices for the device's thread."""


def engine_environment() -> dict[str, str]:
    """Return an engine's variables beside its settings; the operator's own values win."""
    wanted = SPIN_COUNT | KEPT_MEMORY
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


YOUNG_OBJECTS = 20_000
"""New objects until a collection; Python's default of 700 means one every few requests."""


def freeze_heap() -> None:
    """Exempt all present objects from garbage collection, and collect rarely.

    A started process holds some hundred thousand objects until it ends. Scanning them again and
    again takes a few percent of a request's cost, and the event loop waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
