"""How a batch can fail, and what that asks for."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """What an error on the device means."""

    REQUEST = "request"
    """One of the requests is to blame: the others are worth another try without it."""

    OUT_OF_MEMORY = "out-of-memory"
    """The batch was too large; the device is well."""

    DEVICE_LOST = "device-lost"
    """Nothing will run on the device again before the process is replaced."""


class BatchFailedError(Exception):
    """A batch came to nothing; the device is well.

    Attributes:
        fault: why.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class DeviceFailedError(Exception):
    """The device hangs or is lost; only another process can use it again."""
