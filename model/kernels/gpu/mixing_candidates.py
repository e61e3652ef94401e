"""Candidates for the problems of ContMix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from model.kernels.context_mixing import Implementation, context_mixing
from model.kernels.gpu.autotune import Problem
from model.kernels.gpu.mixing_orders import triton_orders
from model.kernels.gpu.support import triton_unsupported_reason


class _MixingProblem(NamedTuple):
    """The fields of a problem, in the order of ``mixing_problem``."""

    operation: str
    images: str
    channels: int
    height: int
    width: int
    query_channels: int
    groups: int
    small_kernel: int
    large_kernel: int
    dtype: torch.dtype
    device: torch.device


def mixing_candidates(problem: Problem, batch: int) -> dict[str, Callable[[], object]]:
    """Return every implementation that runs on the problem's device, by name.

    Args:
        problem: as ``mixing_problem`` returns it.
        batch: number of images.
    """
    fields = _MixingProblem(*problem)  # type: ignore[arg-type]
    # Not the device's own generator: a capture that failed leaves it unusable.
    generator = torch.Generator(fields.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=fields.device).to(fields.dtype)

    groups, small, large = fields.groups, fields.small_kernel, fields.large_kernel
    size = fields.height, fields.width
    with torch.inference_mode():
        arguments = (
            normal(batch, fields.channels, *size).contiguous(memory_format=torch.channels_last),
            normal(batch, fields.query_channels, *size).contiguous(
                memory_format=torch.channels_last
            ),
            # (B, taps, G, D) -> (B, G, taps, D), as a product with all groups' keys makes them
            normal(batch, small**2 + large**2, groups, fields.query_channels // groups).transpose(
                1, 2
            ),
            normal(groups, small, small, small**2),
            normal(groups, large, large, large**2),
        )
    names: tuple[Implementation, ...] = ("tiles",)
    if triton_unsupported_reason(*arguments) is None:
        names = triton_orders(fields.dtype, large, fields.width)
    run = torch.inference_mode()(context_mixing)
    return {name: partial(run, *arguments, implementation=name) for name in names}
