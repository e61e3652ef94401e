"""Measurement of all problems that a network has, each by its operation's candidates."""

from __future__ import annotations

from collections.abc import Callable

from model.kernels import (
    activated_depthwise,
    context_mixing,
    position_norm,
    response_norm,
    squeeze_excite,
)
from model.kernels.gpu.autotune import Autotuner, Decision, Problem, SecondsOf
from model.kernels.gpu.depthwise_candidates import depthwise_candidates
from model.kernels.gpu.map_candidates import map_candidates
from model.kernels.gpu.mixing_candidates import mixing_candidates
from model.kernels.gpu.rows_candidates import rows_candidates

CANDIDATES: dict[str, Callable[[Problem, int], dict[str, Callable[[], object]]]] = {
    "large_depthwise": depthwise_candidates,
    "large_depthwise_with_sums": depthwise_candidates,
    context_mixing.OPERATION: mixing_candidates,
    activated_depthwise.OPERATION: map_candidates,
    activated_depthwise.GELU_BEHIND: map_candidates,
    position_norm.OPERATION: map_candidates,
    response_norm.OPERATION: rows_candidates,
    squeeze_excite.OPERATION: rows_candidates,
}
"""The implementations of each operation, for a problem and a number of images."""


def tune(
    run: Callable[[], object], autotuner: Autotuner, batch: int, seconds_of: SecondsOf
) -> list[Decision]:
    """Run a network once, then measure each of its problems that was not measured yet.

    Args:
        run: runs the network on a batch; its layers look problems up in ``autotuner``.
        autotuner: keeps the decisions.
        batch: number of images in that batch.
        seconds_of: times one candidate.
    """
    with autotuner.collect_problems() as problems:
        run()
    return [
        autotuner.measure(problem, CANDIDATES[str(problem[0])](problem, batch), seconds_of)
        for problem in problems
        if problem not in autotuner
    ]
