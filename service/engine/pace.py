"""How long batches follow each other at, compared with what they cost. Pure, as the scheduler."""

from __future__ import annotations

MEMORY = 0.9
"""Weight that the past keeps when another batch is seen: about the last ten count."""

MAX_SLOWDOWN = 2.0
"""What is slower by more is an accident, and no pace."""


class Pace:
    """Learns how much slower than the device alone everything together is.

    Between two batches answers are sent and requests admitted, by a process that others hold up
    too; and results in the size of someone's huge photograph take longer than their shape tells.

    Attributes:
        slowdown: the factor, from 1.
    """

    def __init__(self) -> None:
        self.slowdown = 1.0
        self._moment = self._expected_seconds = 0.0
        self._followed = False

    def begin(self, now: float, expected_seconds: float) -> None:
        """Note that a batch begins: if it follows another, that is how long that one really took.

        Args:
            now: the present moment.
            expected_seconds: what the batch costs, as far as known.
        """
        if self._followed and self._expected_seconds > 0:
            slowdown = (now - self._moment) / self._expected_seconds
            bounded = min(max(slowdown, 1.0), MAX_SLOWDOWN)
            self.slowdown = MEMORY * self.slowdown + (1 - MEMORY) * bounded
        self._moment, self._expected_seconds, self._followed = now, expected_seconds, False

    def end(self, *, more_waits: bool) -> None:
        """Note that the batch has ended, and whether another one begins at once."""
        self._followed = more_waits
