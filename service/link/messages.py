"""The messages between HTTP workers and engines.

A message is a MessagePack header and, for images and results, raw array frames behind it. Nothing
is pickled. Moments are on the machine's monotonic clock, which all of its processes share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from model.config import IMAGE_MEAN, IMAGE_STD, Interpolation, Operation, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ArrayHeader(msgspec.Struct, frozen=True, array_like=True):
    """Shape and type of the array in a raw frame."""

    shape: tuple[int, ...]
    dtype: str


class InputInfo(msgspec.Struct, frozen=True):
    """What is done to an image before the network sees it.

    Attributes:
        height: pixels; None where it is derived from the image's.
        width: the same.
        short_side: bound of an input that keeps the aspect ratio, pixels; None for a fixed input.
        long_side: the same.
        multiple: divisor of both sides, pixels; None for a fixed input.
        crop_pct: part of the resized short side that a classifier's crop keeps; None for others.
        interpolation: of a classifier's resize, "bicubic" or "bilinear"; None for others.
        mean: mean of each channel, of values from 0 to 1; one value of a grey network.
        std: standard deviation of each channel.
        sources: who stated a value, by its name in a models file: "file", "checkpoint" or
            "architecture".
    """

    height: int | None = None
    width: int | None = None
    short_side: int | None = None
    long_side: int | None = None
    multiple: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] = IMAGE_MEAN
    std: tuple[float, ...] = IMAGE_STD
    sources: dict[str, str] = {}


class FallbackInfo(msgspec.Struct, frozen=True):
    """A step that failed on a device, and was replaced by a simpler form of the network.

    Attributes:
        what: "compile", "record" or "kernels".
        reason: the failure, in words.
    """

    what: str
    reason: str


class ModelInfo(msgspec.Struct, frozen=True):
    """One served model, as ``GET /v1/models`` shows it.

    Attributes:
        name: in requests and answers: the architecture's unless a models file gives one.
        task: the task that it answers.
        architecture: its name in ``model.zoo``.
        weights: their origin: "demo", "random", or a file's name.
        weights_sha256: the file's digest; None for random weights.
        weights_kind: "ema" or "raw".
        activation: what makes scores of a classifier's logits, "softmax" or "sigmoid".
        labels: class names in the order of the class ids.
        colors: red, green and blue of the classes, 0 to 255, in the same order.
        input: what is done to an image.
        device: such as "cpu" or "cuda:0".
        device_name: the device's own name.
        dtype: such as "float32".
        dtype_reason: the reason for it, in words.
        kernels: "native", "Triton", or the reason why PyTorch's own operators run.
        compiled: whether it runs compiled, for its usual input sizes.
        compiled_reason: the reason, in words.
        batch_sizes: the sizes that batches are padded to.
        fallbacks: steps that failed on the device.
        layers: lengths of its embeddings by layer, the default one first.
        has_overview: whether it explains its first look too, by an overview head.
        weights_source: the weights' address, pinned to a version; None without an address.
    """

    name: str
    task: Task
    architecture: str
    weights: str
    weights_sha256: str | None
    weights_kind: Literal["ema", "raw"]
    activation: Literal["softmax", "sigmoid"]
    labels: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    input: InputInfo
    device: str
    device_name: str
    dtype: str
    dtype_reason: str
    kernels: str
    compiled: bool
    compiled_reason: str
    batch_sizes: tuple[int, ...]
    fallbacks: tuple[FallbackInfo, ...] = ()
    layers: dict[str, int] = {}
    has_overview: bool = False
    weights_source: str | None = None

    @property
    def operation(self) -> Operation:
        """The model's own task, as a request asks for it."""
        return Operation(self.name, self.task)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All that can be asked of it, its own task first."""
        explained = (Task.EXPLAIN,) if self.task is Task.CLASSIFY else ()
        return tuple(Operation(self.name, task) for task in (self.task, Task.EMBED, *explained))


class CostInfo(msgspec.Struct, frozen=True):
    """The learnt cost of a batch of n, of one input size: fixed + n * per_image, seconds."""

    operation: Operation
    input_size: tuple[int, int]
    fixed_seconds: float
    per_image_seconds: float


# From an HTTP worker to an engine.


class Hello(msgspec.Struct, tag=True, frozen=True):
    """Ask an engine for its offer."""


BEST = -1
"""Asks for the map of the next best class instead of one by its id."""


class Submit(msgspec.Struct, tag=True, frozen=True):
    """Ask for inference; the image's pixels follow as one frame.

    Attributes:
        request_id: unique within the HTTP worker.
        operation: the model and its task.
        weights_sha256: the digest of the weights that are to answer.
        image: the frame's shape, (H, W, 3), and type, uint8.
        input_size: height and width of the network's input, which a batch shares; the image may be
            smaller.
        original_size: height and width of the caller's image, in which results are given.
        deadline: moment after which the caller no longer waits.
        timeout_seconds: the caller's timeout.
        layer: of an embedding; None for the model's default one.
        class_ids: of an explanation's maps; -1 stands for the next best class.
        logits: whether a segmenter's answer is its logits instead of the label map.
        alone: whether it runs in a batch of its own, since an engine died with it on its device.
        traceparent: the parent of the engine's spans, as in W3C's header; None if it is not traced.
    """

    request_id: int
    operation: Operation
    weights_sha256: str | None
    image: ArrayHeader
    input_size: tuple[int, int]
    original_size: tuple[int, int]
    deadline: float
    timeout_seconds: float
    layer: str | None = None
    class_ids: tuple[int, ...] = ()
    logits: bool = False
    alone: bool = False
    traceparent: str | None = None


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Withdraw a request: its client left."""

    request_id: int


# From an engine to an HTTP worker.


class Crash(msgspec.Struct, frozen=True):
    """An engine died with a batch on its device.

    Attributes:
        incarnation: the engine that died.
        request_ids: requests in the batch that came from the receiving HTTP worker.
    """

    incarnation: str
    request_ids: tuple[int, ...]


class Welcome(msgspec.Struct, tag=True, frozen=True):
    """An engine's offer.

    Attributes:
        incarnation: changes when the engine is restarted.
        ready: whether it is warm.
        models: empty until it is ready; of each task the default one first.
        costs: learnt so far.
        pending_work_seconds: device time that its requests need.
        wait_seconds: expected wait of one more request, by operation.
        crash: its predecessor's end, if that was in the middle of a batch.
    """

    incarnation: str
    ready: bool
    models: tuple[ModelInfo, ...]
    costs: tuple[CostInfo, ...]
    pending_work_seconds: float
    wait_seconds: dict[Operation, float]
    crash: Crash | None = None


class Answer(msgspec.Struct, tag=True, frozen=True):
    """A result; its arrays follow as frames.

    They are, by task: the logits (classes,); the label map (H, W) in the original size, or logits
    (classes, h, w) below their cell's largest; boxes (N, 4) in pixels of the original, scores (N,),
    labels (N,) and masks (N, 28, 28); the layer's embedding (D,); logits (classes,), class ids (k,)
    and class maps (k, h, w) of the head and, if the model has one, of the overview head.

    Attributes:
        request_id: of the request.
        arrays: shape and type of each frame.
        queue_seconds: from arrival to the batch's start.
        inference_seconds: the batch's time on the device.
        batch_size: requests in the batch.
        pending_work_seconds: device time that the engine's other requests need.
        wait_seconds: expected wait of one more request, by operation.
    """

    request_id: int
    arrays: tuple[ArrayHeader, ...]
    queue_seconds: float
    inference_seconds: float
    batch_size: int
    pending_work_seconds: float
    wait_seconds: dict[Operation, float]


class Refusal(msgspec.Struct, tag=True, frozen=True):
    """The rejection of a request, with an error of ``service.api.errors``."""

    request_id: int
    slug: str
    detail: str
    retry_after_seconds: float | None


class Returned(msgspec.Struct, tag=True, frozen=True):
    """The return of a request that the engine could not take yet; it is sent again once warm."""

    request_id: int


ToEngine = Hello | Submit | Cancel
ToWorker = Welcome | Answer | Refusal | Returned

encode = msgspec.msgpack.Encoder().encode
decode_to_engine: Callable[[memoryview], ToEngine] = msgspec.msgpack.Decoder(ToEngine).decode
decode_to_worker: Callable[[memoryview], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode


@dataclass(frozen=True)
class NetworkInput:
    """An image, brought to a network's geometry.

    Attributes:
        pixels: (H, W, 3) uint8.
        size: height and width of the network's input; not smaller than the image.
        original_size: height and width of the caller's image.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    original_size: tuple[int, int]


@dataclass(frozen=True)
class Question:
    """What is asked of a model: a task, and what ``Submit`` says of it."""

    task: Task
    layer: str | None = None
    class_ids: tuple[int, ...] = ()
    logits: bool = False


@dataclass(frozen=True)
class InferenceResult:
    """An engine's answer.

    Attributes:
        arrays: those that ``Answer`` lists for the task.
        queue_seconds: from arrival at the engine to the batch's start.
        inference_seconds: the batch's time on the device.
        batch_size: requests in the batch.
    """

    arrays: tuple[NDArray[Any], ...]
    queue_seconds: float
    inference_seconds: float
    batch_size: int
