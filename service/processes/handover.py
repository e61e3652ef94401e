"""Measurements of an engine, handed to the one that takes its place on the same device.

That one must not measure beside a busy engine: its own numbers would tell of the other's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from model.config import Task


class MeasuredCost(msgspec.Struct, frozen=True):
    """The learnt cost of a batch of n: fixed + n * per_image, seconds.

    Attributes:
        form: of the network, with its dtype; see ``Measurements``.
        task: that it performed.
        input_size: height and width of its input.
        fixed_seconds: of a batch.
        per_image_seconds: of each image in it.
    """

    form: str
    task: Task
    input_size: tuple[int, int]
    fixed_seconds: float
    per_image_seconds: float


class Measurements(msgspec.Struct, frozen=True):
    """What an engine has measured. A network's form is all that its speed depends on, in words.

    Attributes:
        device_name: the device's own name; on another device nothing of this holds.
        dtypes: the dtype that was found faster, and the reason in words, by form.
        kernels: the fastest kernels, as ``Autotuner.choices``.
        costs: of batches.
    """

    device_name: str = ""
    dtypes: Mapping[str, tuple[str, str]] = {}
    kernels: Mapping[str, str] = {}
    costs: tuple[MeasuredCost, ...] = ()


def write_measurements(path: Path, measurements: Measurements) -> None:
    """Replace the file, so that a reader finds all of the old or all of the new."""
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(measurements))
    part.replace(path)


def last_measurements(own: Path | None, predecessor: Path | None) -> Measurements:
    """Read what an engine that starts takes over.

    One that is started again goes on with what was measured in its place: its answers come in the
    same dtype as before.

    Args:
        own: the file of its place; None where it keeps no file.
        predecessor: the file of the engine whose place it takes; None at the start.
    """
    return read_measurements(own if own is not None and own.exists() else predecessor)


def read_measurements(path: Path | None) -> Measurements:
    """Read the file; where there is none, nothing is known.

    Args:
        path: written by ``write_measurements``; None for an engine that takes nobody's place.
    """
    if path is None or not path.exists():
        return Measurements()
    return msgspec.json.decode(path.read_bytes(), type=Measurements)
