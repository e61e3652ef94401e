"""What of a service is at its limit, by what its parts have counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.serving.processes import ThreadSeconds

SATURATED = 0.9
"""Share of a limit: what queues before something so busy waits longer than it is worked on."""


@dataclass(frozen=True)
class Look:
    """Counters at a moment.

    Attributes:
        moment: monotonic, seconds.
        images: that the engine has run.
        batches: that they were in.
        device_seconds: that these took, from staged pixels to results on the host.
        compilations: since the engine was ready.
        workers: processor time of each HTTP worker.
        engine: the same of the engine.
        generators_seconds: the same of all load generators together.
        cores_seconds: for how long the cores were busy, with whatever, in all.
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
    """What was used between two looks.

    Attributes:
        workers_cores: processor time a second of all HTTP workers together.
        engine_cores: the same of the engine.
        generators_cores: the same of the load generators.
        shares: of its limit, by the name of the part.
    """

    workers_cores: float
    engine_cores: float
    generators_cores: float
    shares: dict[str, float]


def usage_between(
    before: Look, after: Look, *, cores: int, decoding_threads: int, generators: int
) -> Usage:
    """Set what was used against what there is.

    Args:
        before: a look.
        after: a later one at the same processes, in the same order.
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
    """Say which parts are at their limit; where none is, which comes nearest.

    Args:
        shares: of its limit, by the name of the part.
    """
    fullest = sorted(shares.items(), key=lambda item: item[1], reverse=True)
    full = [(name, share) for name, share in fullest if share >= SATURATED]
    if full:
        return ", ".join(f"{name} ({share:.0%})" for name, share in full)
    name, share = fullest[0]
    return f"nothing; {name} comes nearest ({share:.0%})"
