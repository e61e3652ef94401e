"""The ways in which a batch can fail."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """The meaning of an error on the device."""

    REQUEST = "request"
    """A poison request: the others can be run again without it."""

    OUT_OF_MEMORY = "out-of-memory"
    """The batch was too large; the device still works."""

    DEVICE_LOST = "device-lost"
    """The device works again only for another process."""


class BatchFailedError(Exception):
    """A batch failed; the device still works.

    Attributes:
        fault: the reason.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class DeviceFailedError(Exception):
    """The device hangs or is lost; only another process can use it again."""
