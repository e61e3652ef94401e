"""Prediction from pixels to a task's results on any device, for service and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from model.heads.detections import Detections
from model.heads.label_map import label_map
from model.heads.mask_rcnn import MaskRCNN
from model.inference.compiled import CompiledModule
from model.inference.cuda_graphs import CudaGraphRecorder, RecordedModule, recording_limit_bytes
from model.inference.result_kernels import launch_result_kernels
from model.inference.staging import StagedImage, Staging, staging_for
from model.inference.static_module import ForwardFunction, StaticModule, Tensors, as_maps
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_candidates import tune
from model.kernels.gpu.support import TRITON_INSTALLED
from model.kernels.gpu.timing import seconds_of
from model.lowering.cpu import lower_for_cpu, lowering_unsupported_reason
from model.lowering.gpu import lower_for_gpu

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Size = tuple[int, int]
"""Height and width, pixels."""

Image: TypeAlias = "NDArray[np.uint8] | StagedImage"
"""(h, w, 3) uint8, in the host's memory or staged for the device."""


Row = TypeVar("Row")


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
        compiler: torch.compile backend for the shapes that ``prepare`` is called with; None to run
            everything eagerly. On a CPU it replaces our kernels, which it cannot trace.

    Attributes:
        kernels: kernels between the dense convolutions: "native", "Triton", or the reason why
            they are PyTorch's alone.

    Raises:
        ValueError: for bfloat16 on a CPU without our kernels. PyTorch's large depthwise
            convolutions in it take minutes there, or never return.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        staging: Staging | None = None,
        *,
        compiler: str | None = None,
    ) -> None:
        reason = _kernels_unsupported_reason(device, dtype, compiles=compiler is not None)
        if device.type == "cpu" and reason is None:
            network = lower_for_cpu(network, dtype)
        elif device.type == "cpu" and dtype == torch.bfloat16:
            raise ValueError(f"bfloat16 on a CPU needs our kernels, but {reason}.")
        own = "native" if device.type == "cpu" else "Triton"
        self.kernels = own if reason is None else f"PyTorch's alone, since {reason}"
        self.network = network.to(device, dtype)
        # Convolutions only: ContMix's biases have four dimensions too, and must stay contiguous.
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self.device = device
        self.dtype = dtype
        if device.type == "cuda" and dtype == torch.float32:
            # PyTorch's convolutions use TF32 by default, with 10 bits of float32's 23.
            torch.backends.cudnn.allow_tf32 = False
        self._autotuner: Autotuner | None = None
        if device.type == "cuda" and reason is None:
            self._autotuner = Autotuner()
            lower_for_gpu(self.network, self._autotuner)
        self.staging = staging or staging_for(device)
        self.static_module = StaticModule(self.network, device, dtype)
        self._set_up(compiler)

    def _set_up(self, compiler: str | None) -> None:
        self._forward: ForwardFunction = self.static_module
        self._compiled: CompiledModule | None = None
        self._recorded: RecordedModule | None = None
        if compiler is not None:
            self._compiled = self._forward = CompiledModule(self.static_module, backend=compiler)
        if self.device.type == "cuda":
            recorder, max_bytes = CudaGraphRecorder(self.device), recording_limit_bytes(self.device)
            self._recorded = self._forward = RecordedModule(self._forward, recorder, max_bytes)

    def do_not_compile(self) -> None:
        """Run everything eagerly, after a failure of the compiler."""
        if self._compiled is not None:
            self._compiled.release()
        self._set_up(None)

    @torch.inference_mode()
    def prepare(self, shape: tuple[int, int, int]) -> None:
        """Choose kernels for a batch's shape, compile for it if there is a compiler, and record it.

        Only a GPU has kernels to choose and recordings.

        Raises:
            CompileError: if the compiler fails.
            torch.OutOfMemoryError: if the device has no room for the batch.
        """
        batch = self._batch([], shape)
        # cuDNN's choice is recorded; other shapes must not wait for a benchmark under traffic.
        with _cudnn_benchmark():
            self._prepare(*batch)
        if self.device.type == "cuda":
            launch_result_kernels(self.network, self._forward(*batch), shape[1:])

    def _prepare(self, *batch: Tensor) -> None:
        if self._autotuner is not None:
            # A compiled graph holds the choices as constants: tune before compiling.
            eager = self._compiled.run_eagerly if self._compiled else self.static_module
            run, seconds = partial(eager, *batch), partial(_seconds_of, device=self.device)
            tune(run, self._autotuner, len(batch[0]), seconds)
        if self._compiled is not None:
            self._compiled.prepare(*batch)
        if self._recorded is not None:
            self._recorded.prepare(*batch)

    @torch.inference_mode()
    def dry_run(self, shape: tuple[int, int, int]) -> None:
        """Run the static part of a batch without images, and wait for it."""
        self.staging.receive(self.enqueue(shape)[-1:])

    @torch.inference_mode()
    def enqueue(self, shape: tuple[int, int, int]) -> Tensors:
        """Launch a batch without images; return its outputs on the device, without waiting."""
        return self._outputs([], shape)

    @torch.inference_mode()
    def classify(
        self, images: Sequence[Image], shape: tuple[int, int, int]
    ) -> list[NDArray[np.float32] | None]:
        """Return each image's logits, (classes,)."""
        logits, finite = self.staging.receive(self._outputs(images, shape))
        return _where_finite(logits[: len(images)].float().numpy(), finite)

    @torch.inference_mode()
    def segment(
        self,
        images: Sequence[Image],
        shape: tuple[int, int, int],
        original_sizes: Sequence[Size],
    ) -> list[NDArray[np.uint8] | None]:
        """Return each image's class ids in its original size, (H, W)."""
        logits = self.pixel_logits(images, shape)
        return self.label_maps(logits, shape[1:], original_sizes)

    @torch.inference_mode()
    def pixel_logits(
        self, images: Sequence[Image], shape: tuple[int, int, int]
    ) -> list[Tensor | None]:
        """Wait for and return each image's logits, (classes, H / 4, W / 4), on the device.

        They are valid until the next batch.
        """
        logits, finite = self._outputs(images, shape)
        (finite,) = self.staging.receive([finite])
        return _where_finite(logits[: len(images)].unbind(), finite)

    @torch.inference_mode()
    def label_maps(
        self, logits: Sequence[Tensor | None], network_size: Size, original_sizes: Sequence[Size]
    ) -> list[NDArray[np.uint8] | None]:
        """Return each image's class ids, (H, W); the time grows with the original size."""
        return [
            None
            if image_logits is None
            else self.staging.receive([label_map(image_logits, network_size, size)])[0].numpy()
            for image_logits, size in zip(logits, original_sizes, strict=True)
        ]

    @torch.inference_mode()
    def detect(
        self,
        images: Sequence[Image],
        shape: tuple[int, int, int],
        original_sizes: Sequence[Size],
    ) -> list[Detections | None]:
        """Return each image's instances, boxes in pixels of its original size, on the CPU."""
        # Proposals and boxes are computed image by image: padding entries would only cost time.
        maps = as_maps(self._outputs(images, (len(images), *shape[1:])))
        sizes = [_size(image) for image in images]
        detector = cast("MaskRCNN", self.network)
        results = detector.detections(*maps, sizes, original_sizes)
        return [self._to_host(detections) for detections in results]

    def _outputs(self, images: Sequence[Image], shape: tuple[int, int, int]) -> Tensors:
        return self._forward(*self._batch(images, shape))

    def _batch(self, images: Sequence[Image], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Return the arguments of ``StaticModule.forward``."""
        staged = [
            image if isinstance(image, StagedImage) else self.staging.stage(image)
            for image in images
        ]
        padding = [shape[1:]] * (shape[0] - len(images))
        sizes = torch.tensor([*(image.size for image in staged), *padding])
        return self.staging.batch(staged, shape), sizes.to(self.device, non_blocking=True)

    def _to_host(self, detections: Detections) -> Detections | None:
        boxes, scores, labels, masks = self.staging.receive(
            (detections.boxes, detections.scores, detections.labels, detections.masks)
        )
        if not all(tensor.isfinite().all() for tensor in (boxes, scores, masks)):
            return None
        return Detections(boxes, scores, labels, masks)


@contextmanager
def _cudnn_benchmark() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _kernels_unsupported_reason(
    device: torch.device, dtype: torch.dtype, *, compiles: bool
) -> str | None:
    """Return why our kernels do not run for a device and dtype, or None if they do."""
    if device.type == "cuda":
        return None if TRITON_INSTALLED else "Triton is not installed"
    if compiles:
        return "the compiler cannot look into the native ones"
    return lowering_unsupported_reason(dtype)


def _seconds_of(run: Callable[[], object], device: torch.device) -> float:
    return seconds_of([run], device)


def find_device(name: str) -> torch.device:
    """Return the device of a name: ``auto`` (the first GPU, else the CPU), ``cpu`` or ``cuda:N``.

    Raises:
        ValueError: if the machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"Device {name} was asked for; this machine has {torch.cuda.device_count()} CUDA "
            "devices that torch can use."
        )
    return device


def _size(image: Image) -> Size:
    if isinstance(image, StagedImage):
        return image.size
    return image.shape[0], image.shape[1]


def _where_finite(rows: Iterable[Row], finite: Tensor) -> list[Row | None]:
    """Return the finite rows, None for the others; ``finite`` also covers padding."""
    return [
        row if is_finite else None for row, is_finite in zip(rows, finite.tolist(), strict=False)
    ]
