"""Runs batches on the device; of the service, only this file imports torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from msgspec.structs import replace

from model.config import Operation
from model.inference.compiled import on_compilation
from model.inference.cuda_graphs import recordings_on
from model.inference.devices import device_name, find_device
from model.inference.dtype_selection import DtypeChooser
from model.inference.predictor import Image, Predictor
from model.inference.preparation import PreparedModel, compile_decision, prepare
from model.inference.staging import staging_for
from model.inference.task_predictors import LAUNCHED, ImageArrays, TaskPredictors
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.failures import (
    DeviceLostError,
    Fallback,
    is_out_of_memory,
    raise_if_device_lost,
)
from model.kernels.gpu.support import on_kernel_compilation
from model.pretrained.assets import PRETRAINED
from model.pretrained.progress import log_lines
from model.pretrained.records import weights_folder
from model.pretrained.store import ensure_cached
from model.zoo import LoadedModel, load_model
from service.engine.batches import BatchResult, DeviceFailedError, Fault, Input
from service.engine.descriptions import (
    blaming,
    check_digest,
    describe,
    input_of,
    labels_of,
    log_model,
    usual_input_sizes,
)
from service.engine.device import EngineDevice
from service.link.messages import FallbackInfo, InputInfo, ModelInfo
from service.processes.handover import Measurements
from service.settings import PREFIX, ModelSpec, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

COMPILER = "inductor"


@contextmanager
def failing_device() -> Iterator[None]:
    """Raise the loss of the device as the engine's failure, whatever was done inside."""
    try:
        yield
    except DeviceLostError as error:
        raise DeviceFailedError(f"The device is lost: {error}") from error


class Runner:
    """Owns a device and the models on it. Not thread-safe: one thread calls it.

    Args:
        settings: the service's.
        specs: the models, of names that differ.
        device: a torch device, or "auto" for the best one found; with both names where the host
            has another one for it.
        batch_sizes: sizes that batches are padded to.
        known: what the engine before has measured.

    Attributes:
        models: as HTTP workers and callers see them.
        forms: what a model's speed depends on, by its name; see ``Measurements``.

    Raises:
        ValueError: if the device is missing or does not fit the settings, or the compiler that was
            asked for fails.
        CheckpointError: if the weights cannot be read or do not fit.
        PretrainedError: if there are no pretrained weights, or they cannot be downloaded.
        DeviceLostError: if the device does not work any more; see ``failing_device``.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[ModelSpec],
        device: EngineDevice | str,
        batch_sizes: tuple[int, ...],
        known: Measurements | None = None,
    ) -> None:
        self._batch_sizes = batch_sizes
        names = EngineDevice(device, device) if isinstance(device, str) else device
        with blaming(f"{PREFIX}DEVICES"):
            self.device = find_device(names.local, names.host)
        self.host_device = str(self.device) if names.host == "auto" else names.host
        if self.device.type == "cpu":
            # The first call in the process decides where the compiled kernels are kept.
            cpu_kernels_unsupported_reason(settings.cache_folder / "kernels")
        self._compile = compile_decision(settings.compile, self.device, f"{PREFIX}COMPILE")
        self._staging = staging_for(self.device)
        self._recordings = recordings_on(self.device) if self.device.type == "cuda" else None
        own = Measurements(device_name(self.device))
        self._known = known if known and known.device_name == own.device_name else own
        self._autotuner = Autotuner(self._known.kernels)
        self.forms: dict[str, str] = {}
        self._dtypes = DtypeChooser(
            self.device,
            compiles=self._compile.compiles,
            requested=settings.dtype,
            setting=f"{PREFIX}DTYPE",
            known=self._known.dtypes,
        )
        self._predictors: dict[str, TaskPredictors] = {}
        self._free_at = 0.0  # end of the last batch that was launched
        self.models = tuple(self._load(settings, spec) for spec in specs)
        self.on_fallback(lambda _: None)  # the warm-up's own are in the models

    def stage(self, image: NDArray[np.uint8]) -> Image:
        """Start to copy an image to a GPU; it can be in a batch at once. Thread-safe."""
        return image if self.device.type == "cpu" else self._staging.stage(image)

    @property
    def measurements(self) -> Measurements:
        """What was measured, without the costs of batches."""
        # Of a model that is not served now, costs are kept until it is loaded again.
        served = {*self.forms.values()}
        kept = tuple(cost for cost in self._known.costs if cost.form not in served)
        choices = self._dtypes.choices, self._autotuner.choices
        return Measurements(self._known.device_name, *choices, kept)

    def warm_up_input_sizes(self, info: InputInfo) -> tuple[tuple[int, int], ...]:
        """Return the usual heights and widths of a model's input that are worth a warm-up."""
        return usual_input_sizes(info)[: None if self.device.type == "cuda" else 1]

    @property
    def launches(self) -> bool:
        """Whether ``launch`` is of use: the device computes beside the host."""
        return self.device.type == "cuda"

    def launch(
        self, operation: Operation, inputs: Sequence[Input], input_size: tuple[int, int], size: int
    ) -> Callable[[], BatchResult]:
        """Launch one batch, as ``run`` takes it; of most tasks return before it is done.

        Label maps and detections depend on the host while they are made: these batches are run.

        Returns:
            A function that waits for the result, on any thread.
        """
        if operation.task not in LAUNCHED:
            result = self.run(operation, inputs, input_size, size)
            return lambda: result
        started = time.perf_counter()
        finish = self._start(operation, inputs, input_size, size)

        def wait() -> BatchResult:
            arrays = finish()
            seconds, self._free_at = self._seconds_since(started), time.perf_counter()
            return BatchResult(arrays, seconds, seconds)

        return wait

    def run(
        self, operation: Operation, inputs: Sequence[Input], input_size: tuple[int, int], size: int
    ) -> BatchResult:
        """Run one batch.

        Args:
            operation: common to all inputs.
            inputs: at least one.
            input_size: height and width of the network's input.
            size: places in the batch; places without an input are padding.
        """
        started = time.perf_counter()
        finish = self._start(operation, inputs, input_size, size)
        network_seconds = self._seconds_since(started)
        arrays = finish()
        device_seconds = self._seconds_since(started)
        if operation.task in LAUNCHED:
            network_seconds = device_seconds
        return BatchResult(arrays, device_seconds, network_seconds)

    def _start(
        self, operation: Operation, inputs: Sequence[Input], input_size: tuple[int, int], size: int
    ) -> Callable[[], ImageArrays]:
        name, task = operation
        return self._predictors[name].launch(task, inputs, (size, *input_size))

    def _seconds_since(self, started: float) -> float:
        """Return the time that the device took, without that for a batch launched before."""
        return time.perf_counter() - max(started, self._free_at)

    def on_compilation(self, call: Callable[[], None]) -> None:
        """Call a function whenever a model or a kernel is compiled from now on."""
        if any(model.compiled for model in self.models):
            on_compilation(call)
        if any(model.kernels == "Triton" for model in self.models):
            on_kernel_compilation(call)

    def on_fallback(self, call: Callable[[str], None]) -> None:
        """Call a function with each step that fails from now on; ``models`` has its reason."""
        for name, tasks in self._predictors.items():
            for predictor in tasks.predictors:
                predictor.execution.on_fallback = partial(self._note, name, call)

    def on_rerecording(self, call: Callable[[], None]) -> None:
        """Call a function whenever a batch waits for a recording from now on."""
        for tasks in self._predictors.values():
            for predictor in tasks.predictors:
                predictor.execution.on_rerecording = call

    def fault_of(self, error: Exception) -> Fault:
        """Classify an error that ``run`` raised; free the memory that was cached for reuse."""
        try:
            raise_if_device_lost(error)
        except DeviceLostError:
            return Fault.DEVICE_LOST
        if is_out_of_memory(error):
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return Fault.OUT_OF_MEMORY
        return Fault.DEVICE_LOST if isinstance(error, torch.AcceleratorError) else Fault.REQUEST

    def _note(self, name: str, call: Callable[[str], None], fallback: Fallback) -> None:
        info = FallbackInfo(fallback.what, fallback.reason)
        self.models = tuple(
            replace(
                model,
                fallbacks=(*model.fallbacks, info) if model.name == name else model.fallbacks,
                # Kernels are turned off for all models at once.
                kernels=self._predictors[model.name].own.kernels,
            )
            for model in self.models
        )
        call(fallback.what)

    def _load(self, settings: Settings, spec: ModelSpec) -> ModelInfo:
        """Load a model, prepare it for batches and describe it."""
        task = spec.task
        with blaming(spec.blame("weights"), spec):
            loaded = _load_model(settings, spec)
        with blaming(spec.blame("labels")):
            labels = labels_of(loaded, task, spec.labels)
        info = input_of(loaded.input, task, square=settings.segment_geometry == "square")
        form = f"{loaded.config} {loaded.network.num_classes}"
        choice = self._dtypes.choose(loaded.network, form)
        compiler = COMPILER if self._compile.compiles else None
        with blaming(spec.blame("weights")):
            predictors = TaskPredictors(
                loaded.network,
                task,
                self.device,
                choice.dtype,
                self._staging,
                self._recordings,
                compiler=compiler,
                input_config=loaded.input,
                autotuner=self._autotuner,
            )
        prepared = self._prepare(predictors.own, spec.name, info)
        self._predictors[spec.name] = predictors
        self.forms[spec.name] = f"{form} {choice.dtype}"
        described = describe(
            spec,
            loaded,
            labels,
            predictors.own,
            prepared,
            input_info=info,
            device=self.host_device,
            device_name=self._known.device_name,
            dtype_reason=choice.reason,
        )
        log_model(described)
        return described

    def _prepare(self, predictor: Predictor, name: str, info: InputInfo) -> PreparedModel:
        if self.device.type == "cpu" and not self._compile.compiles:
            # Nothing to compile, and no device memory that could be too small.
            return PreparedModel(self._batch_sizes, False, self._compile.reason)
        sizes = self.warm_up_input_sizes(info)
        return prepare(predictor, name, self._compile, self._batch_sizes, sizes)


def _load_model(settings: Settings, spec: ModelSpec) -> LoadedModel:
    folder = weights_folder(settings.cache_folder)
    if spec.weights == PRETRAINED and spec.architecture is not None:
        # Log lines, even on a terminal: other processes write there too.
        ensure_cached(spec.architecture, folder, show=log_lines)
    loaded = load_model(
        spec.network,
        task=spec.task,
        kind=spec.kind,
        weights=spec.weights,
        ema=spec.ema,
        input_options=spec.input,
        pretrained_folder=folder,
    )
    check_digest(spec, loaded)
    return loaded
