"""The parts of a service that are at their limits, from counters of its processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.serving.processes import ThreadSeconds

SATURATED = 0.9
"""Share of a limit from which a part counts as saturated: its queue waits longer than it works."""


@dataclass(frozen=True)
class Snapshot:
    """Counters at a moment.

    Attributes:
        moment: monotonic, seconds.
        images: run by the engine.
        batches: run by the engine.
        device_seconds: of the batches, from staged pixels to results on the host.
        compilations: since the engine was ready.
        workers: processor time of each HTTP worker.
        engine: processor time of the engine.
        generators_seconds: processor time of all load generators together.
        cores_seconds: time that all cores together were busy, with any process.
    """

    moment: float
    images: float
    batches: float
    device_seconds: float
    compilations: float
    workers: tuple[ThreadSeconds, ...]
    engine: ThreadSeconds
    generators_seconds: float
    cores_seconds: float


@dataclass(frozen=True)
class Usage:
    """Resources used between two snapshots.

    Attributes:
        workers_cores: processor time a second of all HTTP workers together.
        engine_cores: processor time a second of the engine.
        generators_cores: processor time a second of the load generators.
        shares: used share of each part's limit, by the name of the part.
    """

    workers_cores: float
    engine_cores: float
    generators_cores: float
    shares: dict[str, float]


def usage_between(
    before: Snapshot, after: Snapshot, *, cores: int, decoding_threads: int, generators: int
) -> Usage:
    """Compare the used resources with their limits.

    Args:
        before: a snapshot.
        after: a later one of the same processes, in the same order.
        cores: of the machine.
        decoding_threads: of each HTTP worker.
        generators: processes that make the load.
    """
    seconds = after.moment - before.moment
    pairs = list(zip(before.workers, after.workers, strict=True))
    loops = [(later.loop - earlier.loop) / seconds for earlier, later in pairs]
    decoders = [
        (later.others - earlier.others) / seconds / decoding_threads for earlier, later in pairs
    ]
    generators_cores = (after.generators_seconds - before.generators_seconds) / seconds
    # Its event loop and the thread that gives the device its work take turns at one interpreter.
    interpreter_seconds = (after.engine.loop + after.engine.others) - (
        before.engine.loop + before.engine.others
    )
    return Usage(
        workers_cores=sum(later.all - earlier.all for earlier, later in pairs) / seconds,
        engine_cores=(after.engine.all - before.engine.all) / seconds,
        generators_cores=generators_cores,
        shares={
            "the device": (after.device_seconds - before.device_seconds) / seconds,
            "the engine's process": interpreter_seconds / seconds,
            "the fullest HTTP worker's event loop": max(loops),
            "the HTTP workers' decoding threads": sum(decoders) / len(decoders),
            "the load generators": generators_cores / generators,
            "all cores": (after.cores_seconds - before.cores_seconds) / seconds / cores,
        },
    )


def what_saturates(shares: Mapping[str, float]) -> str:
    """Name the parts that are at their limits, or the nearest one if none is.

    Args:
        shares: used share of each part's limit, by the name of the part.
    """
    fullest = sorted(shares.items(), key=lambda item: item[1], reverse=True)
    full = [(name, share) for name, share in fullest if share >= SATURATED]
    if full:
        return ", ".join(f"{name} ({share:.0%})" for name, share in full)
    name, share = fullest[0]
    return f"nothing; {name} comes nearest ({share:.0%})"
