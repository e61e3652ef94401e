"""Choice of an operation's fastest implementation for each problem, by measuring.

Neither shape arithmetic nor another machine's numbers predict it. So a warm-up runs the network
once while a table collects its problems, then times every candidate of each on the device. From
then on the table decides; nothing is measured inside a forward pass. To torch.compile a decision is
a constant: measure first, compile afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from model.kernels.gpu.failures import StepError, failing_as

logger = logging.getLogger(__name__)

Problem = tuple[object, ...]
"""Key of a measurement: operation name, sizes, dtype and device; hashable, without tensors."""

SecondsOf = Callable[[Callable[[], object]], float]
"""Times a workload on the device, seconds."""


@dataclass(frozen=True)
class Decision:
    """The result of measuring one problem.

    Attributes:
        problem: the key that the operation looks up.
        fastest: name of the chosen candidate.
        seconds: time of each candidate that ran, by name.
    """

    problem: Problem
    fastest: str
    seconds: dict[str, float]


class Autotuner:
    """A table from problems to their fastest candidates; one per device, filled in warm-up.

    Args:
        known: ``choices`` of another process on the same device; they are not measured again.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = known or {}
        self._fastest: dict[Problem, str] = {}
        self._collected: dict[Problem, None] | None = None

    def fastest(self, problem: Problem, default: str) -> str:
        """Return the fastest candidate's name, or ``default`` if the problem was not measured."""
        if self._collected is not None:
            self._collected[problem] = None
        return self._fastest.get(problem, default)

    def __contains__(self, problem: Problem) -> bool:
        """Return whether a problem has been measured, here or by the process before."""
        if problem not in self._fastest and (name := self._known.get(repr(problem))) is not None:
            self._fastest[problem] = name
        return problem in self._fastest

    @property
    def choices(self) -> dict[str, str]:
        """The fastest candidate of each measured problem, for another process."""
        return {repr(problem): name for problem, name in self._fastest.items()}

    @contextmanager
    def collect_problems(self) -> Iterator[list[Problem]]:
        """Collect the problems that are looked up; the list is filled when the context exits."""
        problems: list[Problem] = []
        self._collected = {}
        try:
            yield problems
        finally:
            problems.extend(self._collected)
            self._collected = None

    def measure(
        self,
        problem: Problem,
        candidates: Mapping[str, Callable[[], object]],
        seconds_of: SecondsOf,
    ) -> Decision:
        """Time every candidate and choose the fastest from now on.

        One that fails is not chosen.

        Args:
            problem: the key that the operation looks up.
            candidates: implementations, by name; of equally fast ones the first is chosen.
            seconds_of: times one candidate.

        Raises:
            StepError: if all candidates fail.
            DeviceLostError: if a candidate leaves a device that does not work any more.
            torch.OutOfMemoryError: if the device has no room for the problem.
        """
        seconds: dict[str, float] = {}
        failures: list[StepError] = []
        for name, run in candidates.items():
            try:
                with failing_as(StepError):
                    seconds[name] = seconds_of(run)
            except StepError as failure:
                logger.warning("%s cannot solve %s: %s", name, problem, failure)
                failures.append(failure)
        if not seconds:
            raise failures[0]
        fastest = min(seconds, key=lambda name: seconds[name])
        self._fastest[problem] = fastest
        return Decision(problem, fastest, seconds)
