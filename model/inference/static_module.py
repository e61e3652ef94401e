"""What of a network takes tensors of fixed shapes to tensors of fixed shapes.

It starts with the pixels, so that uint8 crosses to the device and normalising is fused into the
first convolution's input, and ends where shapes begin to depend on what is in the image. This is
what gets compiled and recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from model.config import IMAGE_MEAN, IMAGE_STD
from model.heads.rpn import Candidates

Tensors = tuple[Tensor, ...]

Run = Callable[[Tensor, Tensor], Tensors]
"""Runs a tensor part, in whichever form: see ``StaticModule.forward``."""


@runtime_checkable
class Detector(Protocol):
    """A network with a part behind its maps that depends on the data."""

    def maps(self, images: Tensor) -> tuple[list[Tensor], Candidates]:
        """Compute everything whose shape depends on the batch's alone."""


class StaticModule(nn.Module):
    """Normalisation and the network, or a detector's maps.

    Args:
        network: as it serves, on its device.
        dtype: of the network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.is_detector = isinstance(network, Detector)
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN, device=device).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD, device=device).view(1, 3, 1, 1))
        self.eval()

    def forward(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Compute what the shapes allow.

        Args:
            pixels: uint8 (B, H, W, 3).
            sizes: of the image in each place, rows and columns, (B, 2) int64; what lies right of
                and below it is zero for the network.

        Returns:
            A detector's pyramid, five maps, and its candidates' scores, boxes and levels. Another
            network's output and for each place whether it is finite, (B,).
        """
        images = self.normalised(pixels, sizes)
        if self.is_detector:
            pyramid, candidates = cast("Detector", self.network).maps(images)
            return (*pyramid, *candidates)
        output = self.network(images)
        return output, output.isfinite().flatten(1).all(dim=1)

    def normalised(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """Return the network's input, (B, 3, H, W), computed in float32."""
        # Pixels of (B, H, W, 3) seen as (B, 3, H, W) are channels_last already.
        values = pixels.permute(0, 3, 1, 2).float().div(255)
        normalised = ((values - self.mean) / self.std).to(self.dtype)
        rows = torch.arange(pixels.shape[1], device=pixels.device).view(1, 1, -1, 1)
        columns = torch.arange(pixels.shape[2], device=pixels.device).view(1, 1, 1, -1)
        beside = (rows >= sizes[:, 0].view(-1, 1, 1, 1)) | (
            columns >= sizes[:, 1].view(-1, 1, 1, 1)
        )
        return normalised.masked_fill_(beside, 0)


def as_maps(tensors: Tensors) -> tuple[list[Tensor], Candidates]:
    """Return what ``Detector.maps`` returned."""
    *pyramid, scores, boxes, levels = tensors
    return pyramid, Candidates(scores, boxes, levels)
