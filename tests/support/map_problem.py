"""Arguments for the operations on a map with a 3x3 kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.kernels.activated_depthwise import pixel_taps


class MapProblem(NamedTuple):
    """Arguments of ``activated_depthwise`` and ``position_norm``.

    Attributes:
        features: (B, C, H, W) in channels_last.
        weight: (C, 1, 3, 3).
        bias: of the convolution, (C,).
        taps: of the weight.
        first: another vector, (C,): the activation's bias, or the norm's weight, or a shift.
        second: another one: the norm's bias, or a scale.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor
    taps: Tensor
    first: Tensor
    second: Tensor

    def activated(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the arguments of ``activated_depthwise``."""
        return self.features, self.first, self.weight, self.bias, self.taps

    def normalised(
        self,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the arguments of ``position_norm`` without a context."""
        vectors = (self.first, self.second, self.second, self.first)
        return self.features, self.weight, self.bias, self.taps, *vectors

    def exact(self) -> MapProblem:
        """Return the same numbers in float64, on the CPU."""
        return MapProblem(*(part.cpu().double() for part in self))


def map_problem(
    batch: int,
    channels: int,
    height: int,
    width: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> MapProblem:
    """Make a problem of normal values, the same ones for the same arguments."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    features = normal(batch, channels, height, width).to(device, dtype)
    weight = (normal(channels, 1, 3, 3) / 3).to(device, dtype)
    bias, first, second = (normal(channels).to(device, dtype) for _ in range(3))
    return MapProblem(
        features.contiguous(memory_format=torch.channels_last),
        weight,
        bias,
        pixel_taps(weight),
        first,
        second,
    )
