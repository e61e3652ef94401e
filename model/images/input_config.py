"""What is done to an image before a network sees it, and where each value comes from.

Torch-free, so that an HTTP worker can import it. The words and their meanings are timm's.

Source: timm 0.6.12, ``timm/data/config.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TypeVar

from model.config import (
    IMAGE_MEAN,
    IMAGE_STD,
    ClassificationGeometry,
    Interpolation,
    ScaledGeometry,
)

MINIMUM_INPUT_SIZE = 32
"""Shortest side of a network's input, pixels."""

MAXIMUM_INPUT_SIZE = 4096
"""Longest side of a classifier's input, pixels."""

MINIMUM_STD = 0.001
"""Less makes of a pixel what no network has seen; 1/255 undoes the division of its value."""

Value = TypeVar("Value")


class InputOptionError(ValueError):
    """A stated value that a network has no use for.

    Attributes:
        name: of the value, in ``InputOptions``.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}.")
        self.name = name


class InputSource(StrEnum):
    """Who stated a value of an input: the models file, the checkpoint or the architecture."""

    FILE = "file"
    CHECKPOINT = "checkpoint"
    ARCHITECTURE = "architecture"


@dataclass(frozen=True)
class InputOptions:
    """What a models file or a checkpoint states of a network's input; None where it does not.

    Attributes:
        input_size: side of a classifier's square input, pixels, from 32 to 4096.
        crop_pct: part of the resized short side that a classifier's crop keeps, from 0.1 to 1.
        interpolation: of a classifier's resize, "bicubic" or "bilinear".
        mean: mean of each channel, of values from 0 to 1.
        std: standard deviation of each channel, from 0.001 to 1.

    Raises:
        ValueError: for a value outside of these limits; it names the value.
    """

    input_size: int | None = None
    crop_pct: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        size, crop = self.input_size, self.crop_pct
        if size is not None and not MINIMUM_INPUT_SIZE <= size <= MAXIMUM_INPUT_SIZE:
            raise ValueError(
                f"input_size is {size}; it is from {MINIMUM_INPUT_SIZE} to {MAXIMUM_INPUT_SIZE}"
            )
        if crop is not None and not 0.1 <= crop <= 1:
            raise ValueError(f"crop_pct is {crop}; it is from 0.1 to 1")
        for name, values, least in (("mean", self.mean, 0), ("std", self.std, MINIMUM_STD)):
            if values is not None and not all(least <= value <= 1 for value in values):
                shown = " ".join(map(str, values))
                raise ValueError(f"{name} is {shown}; its values are from {least} to 1")

    @property
    def stated(self) -> tuple[str, ...]:
        """Names of the values that are stated."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name) is not None)


@dataclass(frozen=True)
class InputConfig:
    """What is done to an image before a network sees it.

    Attributes:
        geometry: its resize and crop.
        mean: subtracted from each channel, of values from 0 to 1; one value for a grey network.
        std: divides each channel; as many values.
        sources: who stated each value, by its name in ``InputOptions``; a dense network's geometry
            is the architecture's, and only its ``mean`` and ``std`` are here.
    """

    geometry: ClassificationGeometry | ScaledGeometry
    mean: tuple[float, ...] = IMAGE_MEAN
    std: tuple[float, ...] = IMAGE_STD
    sources: Mapping[str, InputSource] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Channels of the network's input: 3 of RGB, 1 of grey."""
        return len(self.mean)


def input_config(
    geometry: ClassificationGeometry | ScaledGeometry,
    channels: int = 3,
    *,
    file: InputOptions | None = None,
    checkpoint: InputOptions | None = None,
) -> InputConfig:
    """Decide what is done to an image: the file's word comes first, then the checkpoint's.

    Args:
        geometry: the architecture's.
        channels: of the network's input, 3 or 1. The architecture's mean and deviation of a grey
            network are the averages of ImageNet's channels.
        file: stated in a models file.
        checkpoint: stated in the checkpoint.

    Raises:
        InputOptionError: for a mean or deviation of another number of channels, or for the geometry
            of a dense network in a models file; a checkpoint's is not looked at.
    """
    stated = ((InputSource.FILE, file), (InputSource.CHECKPOINT, checkpoint))
    sources: dict[str, InputSource] = {}

    def decide(name: str, architecture: Value) -> Value:
        for source, options in stated:
            value: Value | None = None if options is None else getattr(options, name)
            if value is not None:
                sources[name] = source
                return value
        sources[name] = InputSource.ARCHITECTURE
        return architecture

    if isinstance(geometry, ClassificationGeometry):
        geometry = replace(
            geometry,
            crop_size=decide("input_size", geometry.crop_size),
            crop_fraction=decide("crop_pct", geometry.crop_fraction),
            interpolation=decide("interpolation", geometry.interpolation),
        )
    elif file is not None and (
        unfit := [each for each in file.stated if each not in {"mean", "std"}]
    ):
        raise InputOptionError(unfit[0], "can be set for a classifier alone")
    mean = decide("mean", averaged(IMAGE_MEAN, channels))
    std = decide("std", averaged(IMAGE_STD, channels))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise InputOptionError(
                name,
                f"states {len(values)} channel{'s' * (len(values) != 1)}; the network's input has "
                f"{channels}",
            )
    return InputConfig(geometry, mean, std, sources)


def averaged(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return values for another number of channels: their average for each.

    Source: timm, ``adapt_to_chs`` of ``timm/data/loader.py``.
    """
    if channels == len(values):
        return values
    return (round(sum(values) / len(values), 6),) * channels
