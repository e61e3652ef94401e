"""Growth of a process's compilations and memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.on_gpu.bench import Row, verdict

NOISE_BYTES = 16 * 2**20
"""Allowed growth outside of PyTorch, where allocators keep some megabytes of freed memory. A leak
of one image's logits in each of 10,000 batches would be 40 MB."""


@dataclass(frozen=True)
class Holding:
    """Resources of a process between batches; the device's are None on a CPU.

    Attributes:
        compilations: so far.
        resident_bytes: of this process in the host's memory.
        allocated_bytes: of tensors on the device.
        reserved_bytes: of the device, by PyTorch.
        used_bytes: of the device, by all processes.
    """

    compilations: int
    resident_bytes: int
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    used_bytes: int | None = None


MEASURES = {
    "compilations": ("compilations", 0),
    "bytes of tensors on the device": ("allocated_bytes", 0),
    "bytes reserved of the device by PyTorch": ("reserved_bytes", 0),
    "bytes used of the device in all": ("used_bytes", NOISE_BYTES),
    "bytes resident on the host": ("resident_bytes", NOISE_BYTES),
}
"""Field of each measure, and by how much it may grow."""


def growth_rows(before: Holding, after: Holding) -> Iterator[Row]:
    """Compare two moments, a line for each measure."""
    for what, (field, may_grow_by) in MEASURES.items():
        first, last = getattr(before, field), getattr(after, field)
        if first is not None and last is not None:
            yield {
                "what": what,
                "after the warm-up": first,
                "at the end": last,
                "grown by": last - first,
                "may grow by": may_grow_by,
                "verdict": verdict(last - first, may_grow_by),
            }
