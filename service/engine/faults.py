"""Failures: of a batch, classified by the runner and handled by the engine; and of a start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from model.images.input_config import InputOptionError
from service.settings import ModelSpec


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


@contextmanager
def blaming(setting: str, spec: ModelSpec | None = None) -> Iterator[None]:
    """Begin the message of a ValueError with the setting to change.

    Args:
        setting: a variable, or a key of the models file.
        spec: states the input that can be wrong instead, of which the error says the value.
    """
    try:
        yield
    except InputOptionError as error:
        blamed = setting if spec is None else spec.blame(error.name)
        raise ValueError(f"{blamed}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error
