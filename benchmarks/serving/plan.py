"""The workloads and the thoroughness of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """Images of one size, and the rates at which the open loop offers them.

    Attributes:
        width: pixels.
        height: pixels.
        rates: requests a second, rising, to more than a core can decode.
    """

    width: int
    height: int
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """The size, for tables."""
        return f"{self.width}x{self.height}"


WORKLOADS = (
    # The goals' workload: most of the work is decoding and resizing, the same for all contestants.
    Workload(640, 480, (25, 50, 100, 150, 200, 250, 300, 350, 400)),
    # In the size of the network's geometry, so that nothing is resized: the rest is mostly the
    # serving layer itself.
    Workload(313, 235, (50, 100, 200, 300, 400, 500, 600, 800)),
)


@dataclass(frozen=True)
class Plan:
    """The thoroughness of a run.

    Attributes:
        repeats: turns of every contestant.
        seconds: of one load.
        rate_step: one rate of every ``rate_step`` is measured.
        overload_seconds: at twice the capacity.
        real_seconds: of a real network's turn, over HTTP and bare.
        real_turns: turns of a real network, over HTTP and bare.
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
