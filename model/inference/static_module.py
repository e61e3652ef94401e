"""The part of a network with static shapes, which is compiled and recorded.

It starts with the pixels, so that uint8 is copied to the device and normalisation is fused into the
first convolution's input, and ends where shapes begin to depend on the image's content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from model.config import IMAGE_MEAN, IMAGE_STD
from model.heads.rpn import Candidates

Tensors = tuple[Tensor, ...]

ForwardFunction = Callable[[Tensor, Tensor], Tensors]
"""``StaticModule.forward``, in eager, compiled or recorded form."""


@runtime_checkable
class Detector(Protocol):
    """A network with a data-dependent part after its maps."""

    def maps(self, images: Tensor) -> tuple[list[Tensor], Candidates]:
        """Compute everything whose shape depends on the batch's shape alone."""


class Normalisation(nn.Module):
    """From pixels to the network's input, computed in float32.

    Args:
        device: of the network.
        dtype: of the network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN, device=device).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD, device=device).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """Return (B, 3, H, W); arguments as of ``StaticModule``."""
        # (B, H, W, 3) permuted to (B, 3, H, W) is channels_last already.
        values = pixels.permute(0, 3, 1, 2).float().div(255)
        normalised = ((values - self.mean) / self.std).to(self.dtype)
        rows = torch.arange(pixels.shape[1], device=pixels.device).view(1, 1, -1, 1)
        columns = torch.arange(pixels.shape[2], device=pixels.device).view(1, 1, 1, -1)
        padding = (rows >= sizes[:, 0].view(-1, 1, 1, 1)) | (
            columns >= sizes[:, 1].view(-1, 1, 1, 1)
        )
        return normalised.masked_fill_(padding, 0)


class FinitenessCheck(nn.Module):
    """Whether each image's output is finite: (B, ...) -> (B,) bool."""

    def forward(self, output: Tensor) -> Tensor:
        """Check."""
        return output.isfinite().flatten(1).all(dim=1)


class StaticModule(nn.Module):
    """Normalisation and the network, or a detector's maps.

    Args:
        network: in its inference form, on its device.
        device: of the network.
        dtype: of the network.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.normalise = Normalisation(device, dtype)
        self.network = network
        self.is_detector = isinstance(network, Detector)
        self.is_finite = FinitenessCheck()
        self.eval()

    def forward(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Compute the outputs of static shape.

        Args:
            pixels: uint8 (B, H, W, 3).
            sizes: rows and columns of each image, (B, 2) int64; the network's input is zero right
                of and below it.

        Returns:
            For a detector its pyramid, five maps, and its candidates' scores, boxes and levels. For
            another network its output, and whether each image's is finite, (B,) bool.
        """
        images = self.normalise(pixels, sizes)
        if self.is_detector:
            pyramid, candidates = cast("Detector", self.network).maps(images)
            return (*pyramid, *candidates)
        output = self.network(images)
        return output, self.is_finite(output)


def as_maps(tensors: Tensors, count: int) -> tuple[list[Tensor], Candidates]:
    """Regroup a detector's outputs as ``Detector.maps`` returned them, for the first images."""
    *pyramid, scores, boxes, levels = tensors
    return [level[:count] for level in pyramid], Candidates(scores[:count], boxes[:count], levels)
