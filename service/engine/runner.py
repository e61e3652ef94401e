"""Runs batches on the device: the only file of the service that imports torch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from model.config import CLASSIFIERS
from model.preprocess import IMAGE_MEAN, IMAGE_STD
from model.zoo import LoadedModel, load_model
from service.link.messages import ModelInfo, Task
from service.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

WARM_UP_RUNS = 2


@dataclass(frozen=True)
class Outcome:
    """What a batch came to.

    Attributes:
        arrays: one entry for each request, in order; None where the network's output was not
            finite.
        device_seconds: time from the pixels in memory to the results in memory.
    """

    arrays: tuple[tuple[NDArray[Any], ...] | None, ...]
    device_seconds: float


@dataclass(frozen=True)
class WarmUp:
    """One warm-up batch, for the scheduler to learn from."""

    task: Task
    shape: tuple[int, ...]
    size: int
    device_seconds: float


class Normalised(nn.Module):
    """A network that takes pixels: (B, H, W, 3) uint8 -> the network's output in float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise in float32, run the network in its own type."""
        # Pixels of (B, H, W, 3) seen as (B, 3, H, W) are channels_last already.
        images = pixels.permute(0, 3, 1, 2).float().div(255)
        images = ((images - self.mean) / self.std).to(self.dtype)
        output: Tensor = self.network(images)
        return output.float()


class Runner:
    """Owns a device and the models on it. Not thread-safe: one thread calls it.

    Args:
        settings: the service's.
        device: a torch device, or "auto" for the best one found.
        batch_sizes: sizes that batches are padded to.

    Raises:
        ValueError: if the device is missing or does not fit the settings.
        CheckpointError: if the weights cannot be read or do not fit.
    """

    def __init__(self, settings: Settings, device: str, batch_sizes: tuple[int, ...]) -> None:
        self._batch_sizes = batch_sizes
        self.device = _find_device(device)
        self._dtype = _find_dtype(settings.dtype, self.device)
        loaded = load_model(settings.classify_model, weights=settings.classify_weights_source())
        self._classifier = Normalised(loaded.network, self._dtype).to(self.device).eval()
        self.models = (self._describe(loaded, _labels(loaded, settings.classify_labels)),)

    def warm_up(self) -> Iterator[WarmUp]:
        """Run batches of every served shape twice each, and yield what the last run took.

        On a GPU every batch size runs, since each has kernels to choose and memory to find. A CPU
        needs no more than two sizes, which determine the cost's line, and is ready sooner.
        """
        sizes = self._batch_sizes if self.device.type == "cuda" else self._batch_sizes[:3:2]
        for model in self.models:
            shape = (model.input_height, model.input_width, 3)
            for size in sizes:
                images = [np.zeros(shape, np.uint8)] * size
                for _ in range(WARM_UP_RUNS):
                    outcome = self.run(model.task, images, size)
                yield WarmUp(model.task, shape, size, outcome.device_seconds)

    @torch.inference_mode()
    def run(self, task: Task, images: Sequence[NDArray[np.uint8]], size: int) -> Outcome:
        """Run one batch.

        Args:
            task: what is wanted of all of them.
            images: of one shape, (H, W, 3).
            size: places in the batch; those behind the images are padding.
        """
        assert task is Task.CLASSIFY
        started = time.perf_counter()
        pixels = np.zeros((size, *images[0].shape), np.uint8)
        np.stack(images, out=pixels[: len(images)])
        logits = self._classifier(torch.from_numpy(pixels).to(self.device))
        scores = logits[: len(images)].softmax(dim=-1).cpu().numpy()
        # A softmax over anything that is not finite is not finite either.
        arrays = tuple((row,) if np.isfinite(row).all() else None for row in scores)
        return Outcome(arrays, time.perf_counter() - started)

    def _describe(self, loaded: LoadedModel, labels: tuple[str, ...]) -> ModelInfo:
        side = CLASSIFIERS[loaded.name].geometry.crop_size
        known = loaded.weights in {"demo", "random"}
        return ModelInfo(
            name=loaded.name,
            task=Task.CLASSIFY,
            weights=loaded.weights if known else Path(loaded.weights).name,
            weights_sha256=loaded.digest,
            labels=labels,
            input_height=side,
            input_width=side,
            device=str(self.device),
            device_name=_device_name(self.device),
            dtype=str(self._dtype).removeprefix("torch."),
            compiled=False,
            batch_sizes=self._batch_sizes,
        )


def _find_device(wish: str) -> torch.device:
    if wish == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(wish)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"Device {wish} was asked for; this machine has {torch.cuda.device_count()} CUDA "
            "devices that torch can use."
        )
    return device


def _find_dtype(wish: str, device: torch.device) -> torch.dtype:
    if wish == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wish]


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _labels(loaded: LoadedModel, labels_file: Path | None) -> tuple[str, ...]:
    if labels_file is None:
        return loaded.labels
    try:
        labels = tuple(labels_file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The labels file {labels_file} cannot be read: {error}") from error
    if len(labels) != loaded.network.num_classes:
        raise ValueError(
            f"The labels file {labels_file} has {len(labels)} lines; "
            f"the network has {loaded.network.num_classes} classes."
        )
    return labels
