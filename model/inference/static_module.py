"""The part of a network with static shapes, which is compiled and recorded.

It starts with the pixels, so that uint8 is copied to the device and normalisation is fused into the
first convolution's input, and ends where shapes begin to depend on the image's content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import IMAGE_MEAN, IMAGE_STD
from model.heads.rpn import Candidates
from model.images.input_config import InputConfig

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
        mean: of each channel of the network's input; a grey one has the first of three equal ones.
        std: the same.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.channels = len(mean)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, device=device).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """Return (B, C, H, W); arguments as of ``StaticModule``."""
        # (B, H, W, C) permuted to (B, C, H, W) is channels_last already.
        values = pixels[..., : self.channels].permute(0, 3, 1, 2).float().div(255)
        normalised = ((values - self.mean) / self.std).to(self.dtype)
        rows = torch.arange(pixels.shape[1], device=pixels.device).view(1, 1, -1, 1)
        columns = torch.arange(pixels.shape[2], device=pixels.device).view(1, 1, 1, -1)
        padding = (rows >= sizes[:, 0].view(-1, 1, 1, 1)) | (
            columns >= sizes[:, 1].view(-1, 1, 1, 1)
        )
        return normalised.masked_fill_(padding, 0)


class FinitenessCheck(nn.Module):
    """Whether each image's outputs are finite: each (B, ...) -> (B,) bool."""

    def forward(self, *outputs: Tensor) -> Tensor:
        """Check."""
        checks = [output.isfinite().flatten(1).all(dim=1) for output in outputs]
        return checks[0] if len(checks) == 1 else torch.stack(checks).all(dim=0)


class StaticModule(nn.Module):
    """Normalisation and the network, or a detector's maps.

    Args:
        network: in its inference form, on its device.
        device: of the network.
        dtype: of the network.
        input_config: of the network's input, for mean and deviation; by default those of ImageNet.

    Raises:
        ValueError: if the network's input has neither 3 channels nor 1.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        input_config: InputConfig | None = None,
    ) -> None:
        super().__init__()
        mean = IMAGE_MEAN if input_config is None else input_config.mean
        std = IMAGE_STD if input_config is None else input_config.std
        if len(mean) not in {1, 3}:
            raise ValueError(
                f"the network's input has {len(mean)} channels; an image has 3, or 1 if grey"
            )
        self.normalise = Normalisation(device, dtype, mean, std)
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
            another network its outputs, and whether each image's are finite, (B,) bool. A segmenter
            of one class gets a background before it, whose logit is 0.
        """
        images = self.normalise(pixels, sizes)
        if self.is_detector:
            pyramid, candidates = cast("Detector", self.network).maps(images)
            return (*pyramid, *candidates)
        output = self.network(images)
        if isinstance(output, tuple):
            return *output, self.is_finite(*output)
        if output.ndim == 4 and output.shape[1] == 1:
            # One class against the background: a logit above 0 is a probability above 0.5.
            output = F.pad(output, (0, 0, 0, 0, 1, 0))
        return output, self.is_finite(output)


def as_maps(tensors: Tensors, count: int) -> tuple[list[Tensor], Candidates]:
    """Regroup a detector's outputs as ``Detector.maps`` returned them, for the first images."""
    *pyramid, scores, boxes, levels = tensors
    return [level[:count] for level in pyramid], Candidates(scores[:count], boxes[:count], levels)
