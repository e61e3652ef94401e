"""Candidates for the problems of the large depthwise convolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from model.kernels.gpu.autotune import Problem
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
