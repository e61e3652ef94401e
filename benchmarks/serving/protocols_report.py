"""Results of the protocols side by side: the goals, the table, the files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.serving.goals import Goal, goal_of
from benchmarks.serving.report import goals_table, table
from benchmarks.serving.results import without_infinities
from service.commands.bench.protocols import ProtocolName
from service.commands.bench.summary import RequestOutcome, medians

CLIENTS = (1, 8, 32)
MANY_IMAGES = 16
CLIENTS_OF_MANY = (1, 32)
"""Clients that send ``MANY_IMAGES`` in a call."""

REST_FRACTION = 0.95
"""Least rate of ``/v2`` beside ``/v1``'s."""

MANY_FRACTIONS = {1: 1.3, 32: 1.0}
"""By clients, least images a second of calls with many images beside calls with one."""


@dataclass(frozen=True)
class Subject:
    """A protocol and the images in a request."""

    protocol: ProtocolName
    images: int = 1

    def __str__(self) -> str:
        return self.protocol if self.images == 1 else f"{self.protocol}, {self.images} images"


V1 = Subject("v1")


@dataclass(frozen=True)
class ProtocolLoad:
    """One load, once.

    Attributes:
        subject: protocol and images in a request.
        clients: requests in flight.
        turn: from 0.
        outcome: rates and latencies of the requests.
        images_per_second: of the answered requests, counted between two answers.
        cpu_seconds_per_image: processor time of all of the service's processes.
        foreign_core_fraction: share of the time that the service's core worked for other processes.
    """

    subject: Subject
    clients: int
    turn: int
    outcome: RequestOutcome
    images_per_second: float
    cpu_seconds_per_image: float
    foreign_core_fraction: float


@dataclass(frozen=True)
class ProtocolResults:
    """A run.

    Attributes:
        command: that was run.
        workload: size of the images, "WIDTHxHEIGHT".
        turns: of each load.
        loads: all of them.
        machine: that it ran on.
    """

    command: str
    workload: str
    turns: int
    loads: Sequence[ProtocolLoad]
    machine: dict[str, str]

    def as_json(self) -> str:
        """Return the JSON file; latencies of unanswered requests are null."""
        document = asdict(self) | {"goals": [asdict(goal) for goal in self.goals()]}
        return json.dumps(without_infinities(document), indent=1) + "\n"

    def as_markdown(self) -> str:
        """Return the report."""
        sections = [
            "# The protocols side by side",
            f"`{self.command}`",
            "\n".join(f"- {fact}: {value}" for fact, value in self.machine.items()),
            f"Images of {self.workload}. The service has one core, the load generator the other; "
            "the device is simulated:\na batch of n takes 5 ms + 0.5 ms n, at most 16. Closed "
            "loops; `v2` and `grpc` send and receive binary tensors.\nEvery answer is checked "
            f"against its images. Medians of {self.turns} turns; a ratio is the median of "
            "the turns' ratios.\nOnly as good as the core was free for the service: "
            "look at the last column first.",
            goals_table(list(self.goals())),
            "## Loads\n\n" + self._table(),
        ]
        return "\n\n".join(sections) + "\n"

    def goals(self) -> Iterator[Goal]:
        """Judge the goals."""
        for clients in CLIENTS:
            yield goal_of(
                f"v2 / v1, requests/s, clients: {clients}",
                (">=", REST_FRACTION, "{:.2f}"),
                self.ratio(Subject("v2"), V1, clients),
            )
        for clients, fraction in MANY_FRACTIONS.items():
            yield goal_of(
                f"v2, {MANY_IMAGES} images in a call / one, images/s, clients: {clients}",
                (">=", fraction, "{:.2f}"),
                self.ratio(Subject("v2", MANY_IMAGES), Subject("v2"), clients),
            )

    def ratio(self, subject: Subject, reference: Subject, clients: int) -> float:
        """Return the median ratio of two subjects' images a second; NaN if none was answered."""
        pairs = zip(self.of(subject, clients), self.of(reference, clients), strict=True)
        ratios = [
            each.images_per_second / other.images_per_second
            for each, other in pairs
            if other.images_per_second
        ]
        return median(ratios) if ratios else math.nan

    def of(self, subject: Subject, clients: int) -> list[ProtocolLoad]:
        """Return the turns of a load, in their order."""
        found = [each for each in self.loads if (each.subject, each.clients) == (subject, clients)]
        return sorted(found, key=lambda each: each.turn)

    def _table(self) -> str:
        heads = ("protocol", "clients", "requests/s", "images/s", "of v1's", "p50 ms", "p99 ms")
        more = ("refused", "failed", "CPU of an image, ms", "core taken by others")
        kinds = dict.fromkeys((each.clients, each.subject) for each in self.loads)
        ordered = sorted(kinds, key=lambda kind: (kind[0], kind[1].images))
        return table((*heads, *more), [self._row(subject, clients) for clients, subject in ordered])

    def _row(self, subject: Subject, clients: int) -> list[str]:
        turns = self.of(subject, clients)
        outcome = medians([each.outcome for each in turns])
        images_per_second = median(each.images_per_second for each in turns)
        return [
            str(subject),
            str(clients),
            f"{images_per_second / subject.images:.1f}",
            f"{images_per_second:.1f}",
            f"{self.ratio(subject, V1, clients):.2f}",
            f"{1e3 * outcome.p50_seconds:.1f}",
            f"{1e3 * outcome.p99_seconds:.1f}",
            f"{outcome.refused_fraction:.1%}",
            f"{outcome.failed_fraction:.1%}",
            f"{1e3 * median(each.cpu_seconds_per_image for each in turns):.2f}",
            f"{median(each.foreign_core_fraction for each in turns):.0%}",
        ]
