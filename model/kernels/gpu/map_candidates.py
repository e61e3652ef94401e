"""Candidates for the problems of ``activated_depthwise``, ``depthwise_gelu``, ``position_norm``.

"plain" stands for the compiled network's form of it, so it launches what the compiler cannot fuse
and leaves out what it fuses: the biases. Where it is measured to be faster, it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels import activated_depthwise as activated
from model.kernels import position_norm as position
from model.kernels.gpu.autotune import Problem
from model.kernels.gpu.selection import TILES, Implementation
from model.kernels.gpu.support import triton_unsupported_reason


class _MapProblem(NamedTuple):
    """The fields of a problem, in the order of ``map_problem``."""

    operation: str
    images: str
    channels: int
    height: int
    width: int
    dtype: torch.dtype
    device: torch.device


def map_candidates(problem: Problem, batch: int) -> dict[str, Callable[[], object]]:
    """Return every implementation that runs on the problem's device, by name.

    Args:
        problem: as ``map_problem`` returns it.
        batch: number of images.
    """
    fields = _MapProblem(*problem)  # type: ignore[arg-type]
    # Not the device's own generator: a capture that failed leaves it unusable.
    generator = torch.Generator(fields.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=fields.device).to(fields.dtype)

    with torch.inference_mode():
        features = normal(batch, fields.channels, fields.height, fields.width)
        features = features.contiguous(memory_format=torch.channels_last)
        weight = normal(fields.channels, 1, 3, 3) / 3
        taps = activated.pixel_taps(weight)
        per_channel = [normal(fields.channels) for _ in range(3)]
    arguments: tuple[Tensor, ...]
    plain: Callable[[], object]
    run: Callable[[Implementation], object]
    if fields.operation == activated.OPERATION:
        added, bias, _ = per_channel
        arguments = (features, added, weight, bias, taps)
        run = partial(torch.inference_mode()(activated.activated_depthwise), *arguments)
        plain = partial(_activated_passes, features, weight)
    elif fields.operation == activated.GELU_BEHIND:
        arguments = (features, weight, per_channel[0], taps)
        run = partial(torch.inference_mode()(activated.depthwise_gelu), *arguments)
        plain = partial(_gelu_passes, features, weight)
    else:
        bias, scale, shift = per_channel
        arguments = (features, weight, bias, taps, scale, shift, scale, shift)
        run = partial(torch.inference_mode()(position.position_norm), *arguments)
        plain = partial(_norm_passes, features, weight, scale, shift)
    candidates: dict[str, Callable[[], object]] = {"plain": plain}
    if triton_unsupported_reason(features, weight, taps, *per_channel) is None:
        candidates |= {tile: partial(run, tile) for tile in TILES}
    return candidates


@torch.inference_mode()
def _activated_passes(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    convolved = F.conv2d(F.gelu(features), weight, padding=1, groups=features.shape[1])
    sum_type = torch.promote_types(features.dtype, torch.float32)
    return convolved, torch.linalg.vector_norm(convolved, dim=(2, 3), dtype=sum_type)


@torch.inference_mode()
def _gelu_passes(features: Tensor, weight: Tensor) -> Tensor:
    return F.gelu(F.conv2d(features, weight, padding=1, groups=features.shape[1]))


@torch.inference_mode()
def _norm_passes(
    features: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor
) -> tuple[Tensor, Tensor]:
    convolved = F.conv2d(features, weight, padding=1, groups=features.shape[1])
    pixels = convolved.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
    return convolved, F.layer_norm(pixels, norm_weight.shape, norm_weight, norm_bias, eps=1e-6)
