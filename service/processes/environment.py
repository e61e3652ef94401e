"""Tuning of a long-lived process: its environment, and garbage collection."""

from __future__ import annotations

import gc
import os
from itertools import takewhile

from service.settings import PREFIX, SettingsError

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

DECODERS_TRIM_BYTES = 64 * 2**20
"""Memory that an HTTP worker keeps beside what it uses, for the pixels of common photographs. They
would be new memory for each image, which the kernel clears page by page."""

MAX_COMPILE_THREADS = 8
"""PyTorch's compiler starts a worker for each core of the machine, up to 32, whatever memory the
container may use; each takes some hundred megabytes."""

ALL_GPUS = "CUDA_VISIBLE_DEVICES"


def engine_environment() -> dict[str, str]:
    """Return an engine's variables beside its settings; the operator's own values win."""
    threads = min(MAX_COMPILE_THREADS, os.cpu_count() or 1)
    return _unless_set(SPIN_COUNT | KEPT_MEMORY | {"TORCHINDUCTOR_COMPILE_THREADS": str(threads)})


def http_worker_environment() -> dict[str, str]:
    """Return an HTTP worker's variables beside its settings; the operator's own values win."""
    return _unless_set(KEPT_MEMORY | {"MALLOC_TRIM_THRESHOLD_": str(DECODERS_TRIM_BYTES)})


def _unless_set(wanted: dict[str, str]) -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def gpu_environment(device: str) -> dict[str, str]:
    """Return the variable that shows an engine its GPU alone; empty for another device.

    Args:
        device: of the operator's visible GPUs, such as ``cuda:1``; ``auto`` takes the first.

    Raises:
        SettingsError: if the operator's own ``CUDA_VISIBLE_DEVICES`` has no such GPU.
    """
    if device == "cpu":
        return {}
    index = 0 if device == "auto" else int(device.removeprefix("cuda:"))
    visible = os.environ.get(ALL_GPUS)
    if visible is None:
        return {ALL_GPUS: str(index)}
    names = [name.strip() for name in visible.split(",") if name.strip()]
    # CUDA's rule: the list ends at the first negative number.
    gpus = list(takewhile(lambda name: not name.startswith("-"), names))
    if index < len(gpus):
        return {ALL_GPUS: gpus[index]}
    if device == "auto":
        return {}
    raise SettingsError(f"{PREFIX}DEVICES: {device} is not among {ALL_GPUS}={visible}")


def local_device(device: str) -> str:
    """Return an engine's own name for its device: of GPUs it sees no other."""
    return "cuda:0" if device.startswith("cuda:") else device


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
