"""Whose turn it is at the device, so that no task starves another. Pure, as the scheduler.

Source: start-time fair queueing (Goyal, Vin and Cheng, 1996); docs/adr/0006-fair-shares.md.
"""

from __future__ import annotations

from model.config import Task


class FairShares:
    """Device time of the tasks, on a clock that only runs while there is work.

    A task that had nothing to do starts where the others are: it saved nothing up.
    """

    def __init__(self) -> None:
        self._used = dict.fromkeys(Task, 0.0)
        self._now = 0.0
        self._expected_seconds = 0.0

    def begin(self, task: Task) -> None:
        """Note that a task has work again."""
        self._used[task] = max(self._used[task], self._now)

    def turn(self, task: Task) -> float:
        """Return when it is a task's turn; the lowest goes first."""
        return self._used[task]

    def ahead(self, task: Task, other: Task) -> float:
        """Return how much more a task has had than another; less than 0 if it comes first."""
        return max(self._used[task], self._now) - self._used[other]

    def charge(self, task: Task, expected_seconds: float) -> None:
        """Note that a batch of a task begins."""
        self._now = self._used[task]
        self._expected_seconds = expected_seconds
        self._used[task] += expected_seconds

    def correct(self, task: Task, seconds: float) -> None:
        """Note how long that batch took."""
        self._used[task] += seconds - self._expected_seconds
