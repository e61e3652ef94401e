"""Processor time of an idle server, and the memory of our processes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.serving.contestants import Contestant
from benchmarks.serving.payload import Payload
from benchmarks.serving.processes import cpu_seconds, member_running, peak_resident_bytes
from benchmarks.serving.running_server import RunningServer

SETTLE_SECONDS = 3.0
IDLE_SECONDS = 10.0
REQUESTS_BEFORE = 200
"""Requests answered before memory is measured: by then all lazy imports are done."""

HTTP_WORKER = "service.web.process"
ENGINE = "service.engine.process"


@dataclass(frozen=True)
class Idleness:
    """Processor time of an idle server.

    Attributes:
        contestant: its name.
        core_fraction: of one core, all processes together, over IDLE_SECONDS.
    """

    contestant: str
    core_fraction: float


@dataclass(frozen=True)
class Memory:
    """Peak resident memory after REQUESTS_BEFORE requests."""

    http_worker_bytes: int
    engine_bytes: int


def measure_idleness(contestant: Contestant, payload: Payload, core: int) -> Idleness:
    """Start a server, and measure its processor time without requests."""
    with RunningServer(contestant, payload, str(core)) as server:
        return Idleness(contestant.name, _idle_fraction(server))


def measure_ours(contestant: Contestant, payload: Payload, core: int) -> tuple[Idleness, Memory]:
    """Measure the service as users start it."""
    with RunningServer(contestant, payload, str(core)) as server:
        for _ in range(REQUESTS_BEFORE):
            server.post()
        family = server.family
        memory = Memory(
            http_worker_bytes=peak_resident_bytes(member_running(family, HTTP_WORKER)),
            engine_bytes=peak_resident_bytes(member_running(family, ENGINE)),
        )
        return Idleness(f"{contestant.name}, {contestant.note}", _idle_fraction(server)), memory


def _idle_fraction(server: RunningServer) -> float:
    time.sleep(SETTLE_SECONDS)
    family = server.family
    before, started = cpu_seconds(family), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(family) - before) / (time.perf_counter() - started)
