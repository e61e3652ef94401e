"""Which of several implementations of an operation is the fastest, problem by problem.

Neither shape arithmetic nor another machine's numbers tell: so a warm-up runs the network once
while a table notes what is asked of it, then has every candidate of every noted problem timed on
the device. From then on the table answers; nothing is measured inside a forward pass. To
torch.compile an answer is a constant: measure first, compile afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

Problem = tuple[object, ...]
"""What decides the time: the operation's name, its sizes, dtype and device; hashable, no tensor."""

SecondsOf = Callable[[Callable[[], object]], float]
"""Times one run on the device, seconds."""


@dataclass(frozen=True)
class Decision:
    """What was measured for one problem.

    Attributes:
        problem: as the operation asks for it.
        fastest: the name of the candidate that is taken.
        seconds: of each candidate, by name.
    """

    problem: Problem
    fastest: str
    seconds: dict[str, float]


class Autotuner:
    """A table from problems to the fastest candidate; one a device, filled in warm-up."""

    def __init__(self) -> None:
        self._fastest: dict[Problem, str] = {}
        self._noted: dict[Problem, None] | None = None

    def fastest(self, problem: Problem, default: str) -> str:
        """Return the candidate to take: the fastest one, or ``default`` where none was measured."""
        if self._noted is not None:
            self._noted[problem] = None
        return self._fastest.get(problem, default)

    def __contains__(self, problem: Problem) -> bool:
        """Whether a problem has been measured."""
        return problem in self._fastest

    @contextmanager
    def noting(self) -> Iterator[list[Problem]]:
        """Note what is asked for; the list has every problem once when the context is left."""
        noted: list[Problem] = []
        self._noted = {}
        try:
            yield noted
        finally:
            noted.extend(self._noted)
            self._noted = None

    def measure(
        self,
        problem: Problem,
        candidates: Mapping[str, Callable[[], object]],
        seconds_of: SecondsOf,
    ) -> Decision:
        """Time every candidate, take the fastest from now on, and say what was measured.

        Args:
            problem: as the operation asks for it.
            candidates: what solves it, by name; of equally fast ones the first is taken.
            seconds_of: times one candidate.
        """
        seconds = {name: seconds_of(run) for name, run in candidates.items()}
        fastest = min(seconds, key=lambda name: seconds[name])
        self._fastest[problem] = fastest
        return Decision(problem, fastest, seconds)
