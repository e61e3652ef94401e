"""What a run measures, and how thoroughly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Images of one size, and the rates at which the open loop offers them.

    Attributes:
        width: pixels.
        height: pixels.
        rates: requests a second, rising, to past what a core can decode.
    """

    width: int
    height: int
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """The size, for tables."""
        return f"{self.width}x{self.height}"


WORKLOADS = (
    # What the goals speak of: most of the work is decoding and resizing, the same for everyone.
    Workload(640, 480, (25, 50, 100, 150, 200, 250, 300, 350, 400)),
    # As large as the network's geometry wants it, so that there is nothing to resize: what remains
    # is mostly the serving layer itself.
    Workload(313, 235, (50, 100, 200, 300, 400, 500, 600, 800)),
)


@dataclass(frozen=True)
class Plan:
    """How thorough a run is.

    Attributes:
        repeats: turns of every contestant.
        seconds: of one load.
        rate_step: one rate of so many is measured.
        overload_seconds: at twice the capacity.
        real_seconds: of a real network, over HTTP and bare.
        real_turns: of both.
    """

    repeats: int
    seconds: float
    rate_step: int
    overload_seconds: float
    real_seconds: float
    real_turns: int


THOROUGH = Plan(3, 8.0, 1, 30.0, 25.0, 3)
QUICK = Plan(1, 4.0, 2, 10.0, 12.0, 1)


def rates_of(workload: Workload, plan: Plan) -> tuple[float, ...]:
    """Return the rates of a plan: the highest always, the others thinned out."""
    return workload.rates[:: -plan.rate_step][::-1]
