"""Runs batches on the device: the only file of the service that imports torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from model.dtype_choice import DtypeChoice, choose_dtype
from model.heads.detections import Detections
from model.heads.label_map import MAX_CLASSES
from model.inference import DTYPES, Predictor, find_device
from model.kernels.native_library import native_obstacle
from model.kernels.triton_obstacle import TRITON_INSTALLED
from model.labels.palettes import palette_of
from model.preprocess import padded_size
from model.pretrained.assets import PRETRAINED
from model.pretrained.progress import log_lines
from model.pretrained.records import weights_folder
from model.pretrained.store import obtain
from model.zoo import LoadedModel, load_model
from service.engine.faults import Fault
from service.link.messages import InputInfo, ModelInfo
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

WARM_UP_RUNS = 2
PATIENCE_SECONDS = 1.0
"""A first run that took longer on a CPU is not repeated: it was work, not warming up."""

USUAL_ASPECT_RATIO = 4 / 3
"""Of the image that a dense task is warmed up with."""

_NO_CPU_MEMORY = "DefaultCPUAllocator"
"""In the text of PyTorch's plain RuntimeError when the machine's memory is at its end."""


@dataclass(frozen=True)
class Input:
    """What the runner needs of a request.

    Attributes:
        image: (H, W, 3), not larger than the batch's input size.
        original_size: height and width of the caller's image.
    """

    image: NDArray[np.uint8]
    original_size: tuple[int, int]


@dataclass(frozen=True)
class Outcome:
    """What a batch came to.

    Attributes:
        arrays: one entry for each request, in order, as ``Answer`` has them; None where the
            network's output was not finite.
        device_seconds: time from the pixels in memory to the results in memory.
        network_seconds: of those, what depends on the batch's shape alone: without what results
            of the caller's own size take.
    """

    arrays: tuple[tuple[NDArray[Any], ...] | None, ...]
    device_seconds: float
    network_seconds: float


@dataclass(frozen=True)
class WarmUp:
    """One warm-up batch, for the scheduler to learn from."""

    task: Task
    input_size: tuple[int, int]
    size: int
    device_seconds: float


class Runner:
    """Owns a device and the models on it. Not thread-safe: one thread calls it.

    Args:
        settings: the service's.
        device: a torch device, or "auto" for the best one found.
        batch_sizes: sizes that batches are padded to.

    Raises:
        ValueError: if the device is missing or does not fit the settings.
        CheckpointError: if the weights cannot be read or do not fit.
        PretrainedError: if there are no pretrained weights, or they are not to be had.
    """

    def __init__(self, settings: Settings, device: str, batch_sizes: tuple[int, ...]) -> None:
        self._batch_sizes = batch_sizes
        self.device = find_device(device)
        if self.device.type == "cpu":
            # The process's first look at them decides where they are kept.
            native_obstacle(settings.cache_folder / "kernels")
        self._square = settings.segment_geometry == "square"
        self._predictors: dict[Task, Predictor] = {}
        models = []
        for task in Task:
            if (name := settings.model_of(task)) is None:
                continue
            try:
                loaded = _load(settings, task, name)
            except ValueError as error:
                raise ValueError(f"{PREFIX}{task.upper()}_WEIGHTS: {error}") from error
            labels = _labels(loaded, settings.labels_of(task))
            choice = _find_dtype(settings.dtype, self.device, loaded.network)
            predictor = Predictor(loaded.network, self.device, choice.dtype)
            kernels = _kernels(predictor)
            logger.info(
                "%s %s: %s (%s), kernels: %s.",
                task,
                name,
                _name_of(choice.dtype),
                choice.reason,
                kernels,
            )
            self._predictors[task] = predictor
            models.append(self._describe(loaded, task, labels, choice, kernels))
        self.models = tuple(models)

    def warm_up(self) -> Iterator[WarmUp]:
        """Run batches of every model's usual input and yield what the last run of each took.

        On a GPU every batch size runs, since each has kernels to choose and memory to find. A CPU
        needs no more than two sizes, which determine the cost's line, or one where the input size
        varies anyway, and is ready sooner.
        """
        for model in self.models:
            input_size = _usual_input_size(model.input)
            image = Input(np.zeros((*input_size, 3), np.uint8), input_size)
            for size in self._warm_up_sizes(model):
                for _ in range(WARM_UP_RUNS):
                    outcome = self.run(model.task, [image] * size, input_size, size)
                    if self.device.type == "cpu" and outcome.device_seconds > PATIENCE_SECONDS:
                        break
                yield WarmUp(model.task, input_size, size, outcome.network_seconds)

    def run(
        self, task: Task, inputs: Sequence[Input], input_size: tuple[int, int], size: int
    ) -> Outcome:
        """Run one batch.

        Args:
            task: what is wanted of all of them.
            inputs: at least one.
            input_size: height and width of the network's input.
            size: places in the batch; those behind the inputs are padding.
        """
        started = time.perf_counter()
        images = [each.image for each in inputs]
        original_sizes = [each.original_size for each in inputs]
        predictor, shape = self._predictors[task], (size, *input_size)
        arrays: tuple[tuple[NDArray[Any], ...] | None, ...]
        network_seconds: float | None = None
        match task:
            case Task.CLASSIFY:
                logits = predictor.classify(images, shape)
                arrays = tuple(None if row is None else (_softmax(row),) for row in logits)
            case Task.SEGMENT:
                pixel_logits = predictor.pixel_logits(images, shape)
                network_seconds = time.perf_counter() - started
                label_maps = predictor.label_maps(pixel_logits, input_size, original_sizes)
                arrays = tuple(None if each is None else (each,) for each in label_maps)
            case Task.DETECT:
                found = predictor.detect(images, shape, original_sizes)
                arrays = tuple(None if each is None else _as_arrays(each) for each in found)
        device_seconds = time.perf_counter() - started
        return Outcome(arrays, device_seconds, network_seconds or device_seconds)

    def fault_of(self, error: Exception) -> Fault:
        """Say what an error that ``run`` raised means; memory that was kept for reuse is freed."""
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or _NO_CPU_MEMORY in str(error):
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return Fault.OUT_OF_MEMORY
        if isinstance(error, torch.AcceleratorError) or not _answers(self.device):
            return Fault.DEVICE_LOST
        return Fault.REQUEST

    def _warm_up_sizes(self, model: ModelInfo) -> tuple[int, ...]:
        if self.device.type == "cuda":
            return self._batch_sizes
        return self._batch_sizes[:3:2] if model.task is Task.CLASSIFY else self._batch_sizes[:1]

    def _describe(
        self,
        loaded: LoadedModel,
        task: Task,
        labels: tuple[str, ...],
        choice: DtypeChoice,
        kernels: str,
    ) -> ModelInfo:
        if task is Task.SEGMENT and len(labels) > MAX_CLASSES:
            raise ValueError(
                f"{loaded.name} has {len(labels)} classes; a label map holds {MAX_CLASSES}."
            )
        known = loaded.weights in {"demo", "random"}
        return ModelInfo(
            name=loaded.name,
            task=task,
            weights=loaded.weights if known else Path(loaded.weights).name,
            weights_sha256=loaded.digest,
            labels=labels,
            colors=loaded.palette or palette_of(labels),
            input=self._input(loaded.name, task),
            device=str(self.device),
            device_name=_device_name(self.device),
            dtype=_name_of(choice.dtype),
            dtype_reason=choice.reason,
            kernels=kernels,
            compiled=False,
            batch_sizes=self._batch_sizes,
        )

    def _input(self, name: str, task: Task) -> InputInfo:
        if task is Task.CLASSIFY:
            side = CLASSIFIERS[name].geometry.crop_size
            return InputInfo(height=side, width=side)
        geometry = SEGMENTERS[name].geometry if task is Task.SEGMENT else DETECTORS[name].geometry
        if task is Task.SEGMENT and self._square:
            return InputInfo(height=geometry.short_side, width=geometry.short_side)
        return InputInfo(
            short_side=geometry.short_side,
            long_side=geometry.long_side,
            multiple=geometry.multiple,
        )


def _answers(device: torch.device) -> bool:
    """Return whether the device still works: after some errors every later call fails too."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def _usual_input_size(info: InputInfo) -> tuple[int, int]:
    if info.height is not None and info.width is not None:
        return info.height, info.width
    assert info.short_side is not None
    assert info.multiple is not None
    return padded_size(info.short_side, round(USUAL_ASPECT_RATIO * info.short_side), info.multiple)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shares: NDArray[np.float32] = np.exp(logits - logits.max())
    shares /= shares.sum()
    return shares


def _as_arrays(found: Detections) -> tuple[NDArray[Any], ...]:
    return tuple(
        np.ascontiguousarray(tensor.numpy())
        for tensor in (found.boxes, found.scores, found.labels, found.masks)
    )


def _find_dtype(wish: str, device: torch.device, network: nn.Module) -> DtypeChoice:
    if wish != "auto":
        return DtypeChoice(DTYPES[wish], f"{PREFIX}DTYPE={wish}")
    if device.type == "cuda":
        return DtypeChoice(torch.bfloat16, "auto on a GPU")
    choice = choose_dtype(network)
    return DtypeChoice(choice.dtype, f"auto: {choice.reason}")


def _kernels(predictor: Predictor) -> str:
    """Say what stands between the network's dense convolutions."""
    if predictor.device.type == "cuda":
        return "Triton" if TRITON_INSTALLED else "PyTorch's alone, since Triton is not installed"
    obstacle = predictor.kernels_obstacle
    return "native" if obstacle is None else f"PyTorch's alone, since {obstacle}"


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _load(settings: Settings, task: Task, name: str) -> LoadedModel:
    weights, folder = settings.weights_of(task), weights_folder(settings.cache_folder)
    if weights == PRETRAINED:
        # Log lines also on a terminal: other processes write there too.
        obtain(name, folder, show=log_lines)
    return load_model(name, task=task, weights=weights, pretrained_folder=folder)


def _labels(loaded: LoadedModel, labels_file: Path | None) -> tuple[str, ...]:
    if labels_file is None:
        return loaded.labels
    try:
        labels = tuple(labels_file.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The labels file {labels_file} cannot be read: {error}") from error
    if len(labels) != loaded.network.num_classes:
        raise ValueError(
            f"The labels file {labels_file} has {len(labels)} lines; "
            f"the network has {loaded.network.num_classes} classes."
        )
    return labels
