"""What can solve a noted problem of the large depthwise convolution, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from model.kernels.gpu.autotune import Autotuner, Decision, Problem, SecondsOf
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.gpu.support import triton_unsupported_reason
from model.kernels.large_depthwise import (
    Implementation,
    large_depthwise,
    large_depthwise_with_sums,
    triton_tiles,
)

_OPERATIONS = {
    "large_depthwise": large_depthwise,
    "large_depthwise_with_sums": large_depthwise_with_sums,
}


class _Parts(NamedTuple):
    """The fields of a problem, as ``depthwise_problem`` names it."""

    operation: str
    images: str
    channels: int
    height: int
    width: int
    kernel_size: int
    dtype: torch.dtype
    device: str


def measure_depthwise(
    autotuner: Autotuner, problem: Problem, batch: int, seconds_of: SecondsOf
) -> Decision:
    """Time every candidate of a problem that ``depthwise_problem`` named, and take the fastest.

    Args:
        autotuner: where the decision goes.
        problem: as ``depthwise_problem`` names it.
        batch: how many images to measure it for.
        seconds_of: times one candidate.
    """
    return autotuner.measure(problem, depthwise_candidates(problem, batch), seconds_of)


def tune(
    run: Callable[[], object], autotuner: Autotuner, batch: int, seconds_of: SecondsOf
) -> list[Decision]:
    """Run a network once, then measure every problem that it met and that was not measured yet.

    Args:
        run: the network, on a batch, with layers that ask the choices.
        autotuner: where the decisions go.
        batch: how many images it is.
        seconds_of: times one candidate.
    """
    with autotuner.noting() as problems:
        run()
    return [
        measure_depthwise(autotuner, problem, batch, seconds_of)
        for problem in problems
        if problem not in autotuner
    ]


def depthwise_candidates(problem: Problem, batch: int) -> dict[str, Callable[[], object]]:
    """Return every implementation that runs on the problem's device, by name.

    Args:
        problem: as ``depthwise_problem`` names it.
        batch: how many images to solve it for.
    """
    parts = _Parts(*problem)  # type: ignore[arg-type]
    with torch.inference_mode():
        features = torch.randn(
            batch, parts.channels, parts.height, parts.width, device=parts.device
        ).to(parts.dtype, memory_format=torch.channels_last)
        side = parts.kernel_size
        weight = torch.randn(parts.channels, 1, side, side, device=parts.device) / side
        weight = weight.to(parts.dtype)
        bias = torch.randn(parts.channels, device=parts.device).to(parts.dtype)
        arguments = features, weight, bias, lay_out(weight)
    names: list[Implementation] = ["plain"]
    if triton_unsupported_reason(*arguments) is None:
        names += triton_tiles(parts.dtype)
    operation = _OPERATIONS[parts.operation]
    return {name: partial(torch.inference_mode()(operation), *arguments, name) for name in names}
