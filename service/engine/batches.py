"""Batches: what goes to the device, what comes back, and how they fail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from model.config import Operation

if TYPE_CHECKING:
    from model.inference.predictor import Image
    from model.inference.task_predictors import ImageArrays


@dataclass(frozen=True)
class Input:
    """One request's input to a batch.

    Attributes:
        image: returned by ``Runner.stage``; not larger than the batch's input size.
        original_size: height and width of the caller's image.
        layer: of an embedding; None for the model's default one.
        class_ids: of an explanation's maps; -1 stands for the next best class.
        logits: whether a segmenter's logits are wanted instead of the label map.
    """

    image: Image
    original_size: tuple[int, int]
    layer: str | None = None
    class_ids: tuple[int, ...] = ()
    logits: bool = False


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch.

    Attributes:
        arrays: one entry for each request, in order, as ``Answer`` holds them; None where the
            network's output was not finite.
        device_seconds: time from the pixels in memory to the results in memory.
        network_seconds: the part of it that depends on the batch's shape alone, without resizing
            results to the callers' images.
    """

    arrays: ImageArrays
    device_seconds: float
    network_seconds: float


@dataclass(frozen=True)
class WarmUp:
    """The cost of one warm-up batch, for the scheduler."""

    operation: Operation
    input_size: tuple[int, int]
    size: int
    device_seconds: float


class Fault(StrEnum):
    """The meaning of an error on the device."""

    REQUEST = "request"
    """A poison request: the others can be run again without it."""

    OUT_OF_MEMORY = "out-of-memory"
    """The batch was too large; the device still works."""

    DEVICE_LOST = "device-lost"
    """This process can no longer use the device; a new process can."""


class BatchFailedError(Exception):
    """A batch failed; the device still works.

    Attributes:
        fault: the reason.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class DeviceFailedError(Exception):
    """The device hangs or is lost; only a new process can use it."""
