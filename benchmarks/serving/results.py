"""The results of one run of the benchmark."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.serving.curves import Measurement
from benchmarks.serving.footprint import Idleness, Memory
from benchmarks.serving.ideal import Ideal
from benchmarks.serving.overload import Overload
from benchmarks.serving.real_network import RealNetwork
from service.commands.bench.summary import RequestOutcome, medians


@dataclass(frozen=True)
class AloneResults:
    """Results without peers; a part that was not selected is empty.

    Attributes:
        command: that was run.
        machine: that it ran on.
        idleness: of all contestants.
        memory: of our processes.
        overloads: at twice the capacity.
        real_networks: saturated, against the bare engine.
    """

    command: str
    machine: dict[str, str]
    idleness: list[Idleness]
    memory: Memory | None
    overloads: list[Overload]
    real_networks: list[RealNetwork]

    def as_json(self) -> str:
        """Return the JSON file; latencies of unanswered requests are null."""
        return json.dumps(without_infinities(asdict(self)), indent=1) + "\n"


@dataclass(frozen=True)
class Results(AloneResults):
    """Results of a run against the peers.

    Attributes:
        notes: each contestant's set-up.
        payload_bytes: mean file size by workload.
        decode_seconds: processor time of decoding and resizing one image, by workload.
        generator: the load generator against a static responder.
        curves: all contestants under all loads.
        ideals: the same loads without overhead.
        failures: turns for which a peer did not start; it has a repeat less there.
    """

    notes: dict[str, str]
    payload_bytes: dict[str, int]
    decode_seconds: dict[str, float]
    generator: list[Measurement]
    curves: list[Measurement]
    ideals: list[Ideal]
    failures: list[str]

    def matching(
        self, contestant: str, workload: str, loop: str, level: float
    ) -> Sequence[Measurement]:
        """Return the repeats of one measurement."""
        return [
            each
            for each in self.curves
            if (each.contestant, each.workload) == (contestant, workload)
            and (each.loop, each.level) == (loop, level)
        ]

    def outcome(
        self, contestant: str, workload: str, loop: str, level: float
    ) -> RequestOutcome | None:
        """Return the medians over the repeats; None if it was not measured."""
        found = self.matching(contestant, workload, loop, level)
        return medians([each.outcome for each in found]) if found else None

    def cpu_seconds(self, contestant: str, workload: str, loop: str, level: float) -> float | None:
        """Return the median processor time of an answer; None if it was not measured."""
        found = self.matching(contestant, workload, loop, level)
        return median(each.cpu_seconds_per_answer for each in found) if found else None

    def levels(self, workload: str, loop: str) -> list[float]:
        """Return the measured levels of a workload, rising."""
        return sorted(
            {each.level for each in self.curves if (each.workload, each.loop) == (workload, loop)}
        )


def without_infinities(value: Any) -> Any:
    """Return a document with null for infinite numbers, which JSON lacks."""
    if isinstance(value, dict):
        return {key: without_infinities(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_infinities(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
