"""Candidates for the problems of the large depthwise convolution, and their measurement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from model.kernels.context_mixing import OPERATION
from model.kernels.gpu.autotune import Autotuner, Decision, Problem, SecondsOf
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.gpu.mixing_candidates import mixing_candidates
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


class _DepthwiseProblem(NamedTuple):
    """The fields of a problem, in the order of ``depthwise_problem``."""

    operation: str
    images: str
    channels: int
    height: int
    width: int
    kernel_size: int
    dtype: torch.dtype
    device: torch.device


def measure_depthwise(
    autotuner: Autotuner, problem: Problem, batch: int, seconds_of: SecondsOf
) -> Decision:
    """Time every candidate of a problem and choose the fastest.

    Args:
        autotuner: keeps the decision.
        problem: as ``depthwise_problem`` returns it.
        batch: number of images to measure it with.
        seconds_of: times one candidate.
    """
    return autotuner.measure(problem, depthwise_candidates(problem, batch), seconds_of)


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
        autotuner.measure(problem, _candidates(problem, batch), seconds_of)
        for problem in problems
        if problem not in autotuner
    ]


def _candidates(problem: Problem, batch: int) -> dict[str, Callable[[], object]]:
    candidates = mixing_candidates if problem[0] == OPERATION else depthwise_candidates
    return candidates(problem, batch)


def depthwise_candidates(problem: Problem, batch: int) -> dict[str, Callable[[], object]]:
    """Return every implementation that runs on the problem's device, by name.

    Args:
        problem: as ``depthwise_problem`` returns it.
        batch: number of images.
    """
    fields = _DepthwiseProblem(*problem)  # type: ignore[arg-type]
    # Not the device's own generator: a capture that failed leaves it unusable.
    generator = torch.Generator(fields.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=fields.device)

    with torch.inference_mode():
        features = normal(batch, fields.channels, fields.height, fields.width).to(
            fields.dtype, memory_format=torch.channels_last
        )
        side = fields.kernel_size
        weight = (normal(fields.channels, 1, side, side) / side).to(fields.dtype)
        bias = normal(fields.channels).to(fields.dtype)
        arguments = features, weight, bias, lay_out(weight)
    names: list[Implementation] = ["plain"]
    if triton_unsupported_reason(*arguments) is None:
        names += triton_tiles(fields.dtype, fields.channels, fields.kernel_size)
    operation = _OPERATIONS[fields.operation]
    return {name: partial(torch.inference_mode()(operation), *arguments, name) for name in names}
