"""From pixels to a task's results, on any device: what the service and the evaluation both run.

Normalisation is done here, in float32, so that what crosses to the device is uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from model.heads.detections import Detections
from model.heads.label_map import label_map
from model.native_form import native_form, native_form_obstacle
from model.preprocess import IMAGE_MEAN, IMAGE_STD

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Size = tuple[int, int]
"""Height and width, pixels."""


class Predictor(nn.Module):
    """A network of any task that takes batches of pixels.

    A batch is given as its images, (h, w, 3) uint8 each, and its shape (B, H, W): images smaller
    than H by W get zeros on their right and below after normalisation, and places behind the last
    image are padding without a result. Every method returns one entry for each image, None where
    the network's output was not finite.

    Args:
        network: folded, in evaluation mode; it is moved, and rewritten for a CPU.
        device: where it runs.
        dtype: of weights and images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.kernels_obstacle = native_form_obstacle(dtype) if device.type == "cpu" else None
        if device.type == "cpu" and self.kernels_obstacle is None:
            network = native_form(network, dtype)
        self.network = network.to(device, dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN, device=device).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD, device=device).view(1, 3, 1, 1))
        self.eval()

    @torch.inference_mode()
    def classify(
        self, images: Sequence[NDArray[np.uint8]], shape: tuple[int, int, int]
    ) -> list[NDArray[np.float32] | None]:
        """Return each image's logits, (classes,)."""
        logits = self.network(self._batch(images, shape))[: len(images)].float().cpu().numpy()
        return [row if np.isfinite(row).all() else None for row in logits]

    @torch.inference_mode()
    def segment(
        self,
        images: Sequence[NDArray[np.uint8]],
        shape: tuple[int, int, int],
        original_sizes: Sequence[Size],
    ) -> list[NDArray[np.uint8] | None]:
        """Return each image's class ids in its original size, (H, W)."""
        logits = self.pixel_logits(images, shape)
        return self.label_maps(logits, shape[1:], original_sizes)

    @torch.inference_mode()
    def pixel_logits(
        self, images: Sequence[NDArray[np.uint8]], shape: tuple[int, int, int]
    ) -> list[Tensor | None]:
        """Return each image's logits, (classes, H / 4, W / 4), when they are complete."""
        logits = self.network(self._batch(images, shape))[: len(images)].float()
        finite = logits.isfinite().flatten(1).all(dim=1).tolist()
        return [each if is_finite else None for each, is_finite in zip(logits, finite, strict=True)]

    @torch.inference_mode()
    def label_maps(
        self, logits: Sequence[Tensor | None], network_size: Size, original_sizes: Sequence[Size]
    ) -> list[NDArray[np.uint8] | None]:
        """Return each image's class ids, (H, W); that takes the longer the larger the original."""
        return [
            None if each is None else label_map(each, network_size, size).cpu().numpy()
            for each, size in zip(logits, original_sizes, strict=True)
        ]

    @torch.inference_mode()
    def detect(
        self,
        images: Sequence[NDArray[np.uint8]],
        shape: tuple[int, int, int],
        original_sizes: Sequence[Size],
    ) -> list[Detections | None]:
        """Return each image's instances, boxes in pixels of its original size, on the CPU."""
        # Proposals and boxes are made image by image: padding places would only cost time.
        batch = self._batch(images, (len(images), *shape[1:]))
        sizes = [image.shape[:2] for image in images]
        found: list[Detections] = self.network(batch, sizes, original_sizes)
        return [_on_cpu(detections) for detections in found]

    def _batch(self, images: Sequence[NDArray[np.uint8]], shape: tuple[int, int, int]) -> Tensor:
        """Bring images to the device and normalise them: (B, 3, H, W) in the network's type."""
        pixels = np.zeros((*shape, 3), np.uint8)
        for place, image in enumerate(images):
            pixels[place, : image.shape[0], : image.shape[1]] = image
        # Pixels of (B, H, W, 3) seen as (B, 3, H, W) are channels_last already.
        values = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div(255)
        normalised = ((values - self.mean) / self.std).to(self.dtype)
        for place, image in enumerate(images):
            normalised[place, :, image.shape[0] :] = 0
            normalised[place, :, :, image.shape[1] :] = 0
        return normalised


def find_device(wish: str) -> torch.device:
    """Return the device of ``auto`` (the best one found), ``cpu`` or ``cuda:N``.

    Raises:
        ValueError: if the machine does not have it.
    """
    if wish == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(wish)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"Device {wish} was asked for; this machine has {torch.cuda.device_count()} CUDA "
            "devices that torch can use."
        )
    return device


def _on_cpu(found: Detections) -> Detections | None:
    boxes, scores, labels, masks = (
        tensor.cpu() for tensor in (found.boxes, found.scores, found.labels, found.masks)
    )
    if not all(tensor.isfinite().all() for tensor in (boxes, scores, masks)):
        return None
    return Detections(boxes, scores, labels, masks)
