"""Exponentially weighted moving averages, for all quantities that are learnt while serving."""

from __future__ import annotations

from collections.abc import Sequence


class Ewma:
    """Weighted means of quantities that are observed together; older observations fade.

    Args:
        memory: the factor by which every observation's weight shrinks when another one comes,
            above 0. With 0.9 about the last ten count; with 1 nothing fades.
        start: the means before the first observation, weighted like infinitely many earlier ones;
            requires ``memory`` below 1. Without it the first observation is the mean.

    Attributes:
        weight: of all observations together; 0.0 before the first.
        sums: weighted sum of each quantity.
    """

    def __init__(self, memory: float, start: Sequence[float] = ()) -> None:
        self._memory = memory
        self.weight = 1 / (1 - memory) if start else 0.0
        self.sums = [value * self.weight for value in start]

    @property
    def means(self) -> list[float]:
        """Mean of each quantity; none before the first observation."""
        return [total / self.weight for total in self.sums]

    def observe(self, *values: float) -> None:
        """Count one observation: a value for each quantity."""
        sums = self.sums or [0.0] * len(values)
        self.weight = self._memory * self.weight + 1.0
        self.sums = [
            self._memory * total + value for total, value in zip(sums, values, strict=True)
        ]
