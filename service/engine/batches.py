"""Batches: what goes to the device, what comes back, and how they fail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from model.config import Operation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.heads.detections import Detections
    from model.inference.predictor import Image

Arrays: TypeAlias = "tuple[tuple[NDArray[Any], ...] | None, ...]"
"""The arrays of each request's answer; None where the network's output was not finite."""


@dataclass(frozen=True)
class Input:
    """One request's input to a batch.

    Attributes:
        image: returned by ``Runner.stage``; not larger than the batch's input size.
        original_size: height and width of the caller's image.
    """

    image: Image
    original_size: tuple[int, int]


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

    arrays: Arrays
    device_seconds: float
    network_seconds: float


@dataclass(frozen=True)
class WarmUp:
    """The cost of one warm-up batch, for the scheduler."""

    operation: Operation
    input_size: tuple[int, int]
    size: int
    device_seconds: float


def arrays_of(found: Detections) -> tuple[NDArray[Any], ...]:
    """Return boxes, scores, labels and masks of an image's detections."""
    return tuple(
        np.ascontiguousarray(tensor.numpy())
        for tensor in (found.boxes, found.scores, found.labels, found.masks)
    )


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
