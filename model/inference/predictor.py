"""Prediction from pixels to a task's results on any device, for service and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial, wraps
from itertools import islice
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from model.heads.detections import Detections
from model.heads.label_map import label_map, relative_logits
from model.heads.mask_rcnn import MaskRCNN
from model.images.input_config import InputConfig
from model.inference.execution import (
    Execution,
    PreparationSeconds,
    gpu_on,
    kernels_unsupported_reason,
)
from model.inference.passes import ExplainingNetwork, Explanation
from model.inference.recorded_network import recorded
from model.inference.recordings import Recordings
from model.inference.result_kernels import launch_result_kernels
from model.inference.staging import (
    StagedImage,
    Staging,
    current_device,
    image_size,
    staging_for,
    where_finite,
    where_usable,
)
from model.inference.static_module import ForwardFunction, StaticModule, Tensors, as_maps
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.failures import Fallback
from model.kernels.gpu.support import turn_off_triton, turned_off_reason
from model.lowering.cpu import lower_for_cpu
from model.lowering.gpu import lower_for_gpu

if TYPE_CHECKING:
    from numpy.typing import NDArray

Size = tuple[int, int]
"""Height and width, pixels."""

Image: TypeAlias = "NDArray[np.uint8] | StagedImage"
"""(h, w, 3) uint8, in the host's memory or staged for the device."""

Launched: TypeAlias = "Callable[[], list[NDArray[np.float32] | None]]"

Row = TypeVar("Row")
Parameters = ParamSpec("Parameters")

logger = logging.getLogger(__name__)


def _computing(
    method: Callable[Concatenate[Predictor, Parameters], Row],
) -> Callable[Concatenate[Predictor, Parameters], Row]:
    """Run a method in inference mode, on the predictor's device, at the cost of recordings."""

    @wraps(method)
    def run(
        predictor: Predictor, /, *arguments: Parameters.args, **options: Parameters.kwargs
    ) -> Row:
        with torch.inference_mode(), current_device(predictor.device):
            if predictor.device.type == "cpu":
                return method(predictor, *arguments, **options)
            run_once = partial(method, predictor, *arguments, **options)
            return predictor.execution.with_memory(run_once)

    return run


class Predictor:
    """A network of any task that runs on batches of pixels.

    A batch is given as its images and its shape (B, H, W): images smaller than H by W get zeros
    on their right and below after normalisation, and entries behind the last image are padding
    without a result. Every method returns one entry for each image, None where the network's
    output was not finite.

    Args:
        network: folded, in evaluation mode; moved and lowered in place.
        device: where it runs.
        dtype: of weights and images.
        staging: copies pixels to the device; its own by default.
        recordings: of all models on a GPU; its own by default, as the autotuner.
        input_config: of the network's input; by default RGB with ImageNet's mean and deviation.
        compiler: torch.compile backend for the shapes that ``prepare`` is called with; None to run
            everything eagerly. On a CPU it replaces our kernels, which it cannot trace.

    Raises:
        ValueError: if the network's input has neither 3 channels nor 1; for bfloat16 on a CPU
            without our kernels, since PyTorch's own take minutes there, or never return.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        staging: Staging | None = None,
        recordings: Recordings | None = None,
        *,
        input_config: InputConfig | None = None,
        compiler: str | None = None,
        autotuner: Autotuner | None = None,
    ) -> None:
        reason = kernels_unsupported_reason(device, dtype, compiles=compiler is not None)
        if device.type == "cpu" and reason is None:
            network = lower_for_cpu(network, dtype)
        elif device.type == "cpu" and dtype == torch.bfloat16:
            raise ValueError(f"bfloat16 on a CPU needs our kernels, but {reason}.")
        own = "native" if device.type == "cpu" else "Triton"
        self._kernels = own if reason is None else f"PyTorch's alone, since {reason}"
        self.network = network.to(device, dtype)
        # Convolutions only: ContMix's biases have four dimensions too, and must stay contiguous.
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self.device = device
        self.dtype = dtype
        if device.type == "cuda" and dtype == torch.float32:
            # By default PyTorch's convolutions use TF32, of 10 bits.
            torch.backends.cudnn.allow_tf32 = False
        autotuner = autotuner or Autotuner() if device.type == "cuda" and reason is None else None
        if autotuner is not None:
            lower_for_gpu(self.network, autotuner)
        self.staging = staging or staging_for(device)
        replayed = recorded(self.network) if device.type == "cpu" else self.network
        self.static_module = StaticModule(replayed, device, dtype, input_config)
        gpu = gpu_on(device, recordings, autotuner) if device.type == "cuda" else None
        self.execution = Execution(self.static_module, gpu, compiler)
        self._sizes_with_results: set[Size] = set()
        # On a CPU there is nothing to choose, unless it compiles.
        is_plain = gpu is None and compiler is None
        self._forward: ForwardFunction = self.static_module if is_plain else self.execution
        if gpu is not None and reason is not None:
            turn_off_triton(reason)
            self.execution.fallbacks.append(Fallback("kernels", reason))

    @property
    def kernels(self) -> str:
        """Kernels between the dense convolutions.

        "native", "Triton", or the reason why they are PyTorch's alone.
        """
        reason = turned_off_reason() if self._kernels == "Triton" else None
        return self._kernels if reason is None else f"PyTorch's alone, since {reason}"

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """Steps that failed on the device and were replaced by a simpler form."""
        return tuple(self.execution.fallbacks)

    def do_not_compile(self, reason: str) -> None:
        """Run everything uncompiled, after a failure of the compiler."""
        with current_device(self.device):
            self.execution.do_not_compile(reason)

    def start_over(self) -> None:
        """Forget all recordings, before smaller batches are prepared."""
        with current_device(self.device):
            self.execution.start_over()

    @_computing
    def prepare(self, shape: tuple[int, int, int]) -> PreparationSeconds:
        """Choose kernels for a batch's shape, compile for it if there is a compiler, and record it.

        Only a GPU has kernels to choose and recordings.

        Raises:
            CompileError: if the compiler fails.
            DeviceLostError: if the device does not work any more.
            torch.OutOfMemoryError: if the device has no room for the batch.
            RuntimeError: if not even PyTorch's own operators can run it.
        """
        batch = self._batch([], shape)
        seconds = self.execution.prepare(*batch)
        logger.debug("Batches of %s: %s.", shape, seconds)
        if self.device.type == "cuda" and shape[1:] not in self._sizes_with_results:
            outputs = self.execution(*batch)
            launch = partial(launch_result_kernels, self.network, outputs, shape[1:])
            self.execution.with_kernels(launch)
            self._sizes_with_results.add(shape[1:])
        return seconds

    @_computing
    def dry_run(self, shape: tuple[int, int, int]) -> None:
        """Run the static part of a batch without images, and wait for it."""
        self.staging.receive(self.enqueue(shape)[-1:])

    @_computing
    def enqueue(self, shape: tuple[int, int, int]) -> Tensors:
        """Launch a batch without images; return its outputs on the device, without waiting."""
        return self._outputs([], shape)

    @_computing
    def classify(
        self, images: Sequence[Image], shape: tuple[int, int, int]
    ) -> list[NDArray[np.float32] | None]:
        """Return each image's logits, (classes,)."""
        return self.launch(images, shape)()

    @_computing
    def launch(self, images: Sequence[Image], shape: tuple[int, int, int]) -> Launched:
        """Launch logits or embeddings; return a function that waits for each image's.

        It may be called on any thread, and after later batches were launched.
        """
        receipt = self.staging.fetch(self._outputs(images, shape))

        def wait() -> list[NDArray[np.float32] | None]:
            logits, finite = receipt.wait()
            return where_finite(logits[: len(images)].float().numpy(), finite)

        return wait

    @_computing
    def launch_explanations(
        self,
        images: Sequence[Image],
        shape: tuple[int, int, int],
        wanted: Sequence[Sequence[int]],
    ) -> Callable[[], list[Explanation | None]]:
        """Launch an ``ExplainingNetwork``; return a function that waits, as of ``launch``.

        ``wanted`` has a row of classes for each image, all of one length; their values are those of
        ``ExplainingNetwork.chosen_maps``.
        """
        *outputs, finite = (each[: len(images)] for each in self._outputs(images, shape))
        network = cast("ExplainingNetwork", self.network)
        made = network.chosen_maps(tuple(outputs), self.staging.send(np.array(wanted, np.int64)))
        receipt = self.staging.fetch([finite, outputs[0].float(), *made])

        def wait() -> list[Explanation | None]:
            finite, *parts = receipt.wait()
            rows = zip(*(part.numpy() for part in parts), strict=True)
            return where_finite((Explanation(*row) for row in rows), finite)

        return wait

    @_computing
    def segment(
        self,
        images: Sequence[Image],
        shape: tuple[int, int, int],
        original_sizes: Sequence[Size],
    ) -> list[NDArray[np.uint8] | None]:
        """Return each image's class ids in its original size, (H, W)."""
        logits = self.pixel_logits(images, shape)
        return self.label_maps(logits, shape[1:], original_sizes)

    @_computing
    def pixel_logits(
        self, images: Sequence[Image], shape: tuple[int, int, int]
    ) -> list[Tensor | None]:
        """Wait for and return each image's logits, (classes, H / 4, W / 4), on the device.

        A single class has a background before it. They are valid until the next batch.
        """
        logits, finite = self._outputs(images, shape)
        (finite,) = self.staging.receive([finite])
        return where_finite(logits[: len(images)].unbind(), finite)

    @_computing
    def label_maps(
        self, logits: Sequence[Tensor | None], network_size: Size, sizes: Sequence[Size | None]
    ) -> list[NDArray[Any] | None]:
        """Return each image's class ids, (H, W); without a size its ``relative_logits``."""
        made = [
            relative_logits(each)
            if size is None
            else self.execution.with_kernels(partial(label_map, each, network_size, size))
            for each, size in zip(logits, sizes, strict=True)
            if each is not None
        ]
        received = iter(self.staging.receive(made))
        return [None if each is None else next(received).numpy() for each in logits]

    @_computing
    def detect(
        self,
        images: Sequence[Image],
        shape: tuple[int, int, int],
        original_sizes: Sequence[Size],
    ) -> list[Detections | None]:
        """Return each image's instances, boxes in pixels of its original size, on the CPU."""
        # Proposals and boxes are computed image by image, for the images alone; a recording of the
        # static part that is a little larger is faster than launching its kernels one by one.
        count = len(images)
        padded = self.execution.padded_size((count, *shape[1:]))
        maps = as_maps(self._outputs(images, (padded, *shape[1:])), count)
        sizes = [image_size(image) for image in images]
        detector = cast("MaskRCNN", self.network)
        find = partial(detector.detections, *maps, sizes, original_sizes)
        return self._to_host(self.execution.with_kernels(find))

    def _outputs(self, images: Sequence[Image], shape: tuple[int, int, int]) -> Tensors:
        recorded = None if self._forward is self.static_module else self.execution.recorded
        place = None if recorded is None else recorded.inputs_for(shape)
        return self._forward(*self._batch(images, shape, place))

    def _batch(
        self, images: Sequence[Image], shape: tuple[int, int, int], place: Tensors | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the arguments of ``StaticModule.forward``."""
        stage = self.staging.stage
        staged = [each if isinstance(each, StagedImage) else stage(each) for each in images]
        return self.staging.batch(staged, shape, place)

    def _to_host(self, found: Sequence[Detections]) -> list[Detections | None]:
        parts = [(each.boxes, each.scores, each.labels, each.masks) for each in found]
        received = iter(self.staging.receive([tensor for each in parts for tensor in each]))
        return [where_usable(Detections(*islice(received, 4))) for _ in found]
