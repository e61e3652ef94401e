"""Antialiased resizing, bit-identical to Pillow's, by our C kernel or by Pillow itself.

Pillow resizes by integer sums, so equal weights give equal bits in any order of summation. The
weights are computed as Pillow does it: the same operations in float64, in the same order.

Source: Pillow, ``src/libImaging/Resample.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from model.config import Interpolation
from model.images.pillow_memory import SeveralBlocksError, packed_pixels, pixel_memory
from model.kernels.cpu.library import cpu_kernels_unsupported_reason, native_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Crop = tuple[int, int, int, int]

REACH: dict[Interpolation, int] = {"bicubic": 2, "bilinear": 1}
"""Radius of each filter, in pixels of the coarser of its two images."""

PILLOW: dict[Interpolation, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}

FRACTION_BITS = 22
"""Fractional bits of a fixed-point weight: 32, minus 8 for the pixels and 2 for overshoot."""

STRIP_PIXELS = 1 << 18
"""Pixels copied at a time from an image that Pillow keeps in several blocks: 1 MB."""

GROUP_BYTES = 48
"""Bytes that the kernel sums at a time."""

CHANNELS = 3

KEPT_WEIGHTS = 64
"""Sets of weights in the cache: 8 kB for a photograph's side, 0.5 MB for one of 32,000 pixels."""


def resize_and_crop(
    image: Image.Image, size: Size, box: Box, crop: Crop, interpolation: Interpolation = "bicubic"
) -> NDArray[np.uint8]:
    """Resize ``box`` of an image to ``size``, along its rows first, and cut ``crop`` out of that.

    Pillow does the same, but since version 13 not for every tall image. The order matters where
    the bicubic filter overshoots, since the intermediate result is clipped to uint8.

    Args:
        image: mode RGB.
        size: width and height after resizing.
        box: left, top, right and bottom within the image, in its pixels.
        crop: left, top, right and bottom within ``size``, in pixels.
        interpolation: the filter.

    Returns:
        (height, width, 3) uint8 of the crop.

    Raises:
        ValueError: if the image has another mode, or the crop is empty or reaches beyond ``size``.
    """
    if image.mode != "RGB":
        raise ValueError(f"The image is {image.mode}, not RGB.")
    if not (0 <= crop[0] < crop[2] <= size[0] and 0 <= crop[1] < crop[3] <= size[1]):
        raise ValueError(f"The crop {crop} is not within {size[0]} x {size[1]}.")
    if image.size == size and box == (0, 0, *size):
        return packed_pixels(image, crop)
    resize = _natively if cpu_kernels_unsupported_reason() is None else _in_pillow
    return resize(image, size, box, crop, interpolation)


def _in_pillow(
    image: Image.Image, size: Size, box: Box, crop: Crop, interpolation: Interpolation
) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    first, last = _rows_in_reach(box, size, image.height, interpolation)
    resample = PILLOW[interpolation]
    rows = image.resize((size[0], last - first), resample, (left, first, right, last))
    # The columns are independent of each other, and the whole result may be larger than memory.
    rows = rows.crop((crop[0], 0, crop[2], rows.height))
    box = (0, top - first, rows.width, bottom - first)
    resized = rows.resize((rows.width, size[1]), resample, box)
    return np.asarray(resized.crop((0, crop[1], rows.width, crop[3])))


def _natively(
    image: Image.Image, size: Size, box: Box, crop: Crop, interpolation: Interpolation
) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    first, last = _rows_in_reach(box, size, image.height, interpolation)
    across = weights(image.width, left, right, size[0], crop[0], crop[2], interpolation)
    down = weights(
        last - first, top - first, bottom - first, size[1], crop[1], crop[3], interpolation
    )
    width, height = crop[2] - crop[0], crop[3] - crop[1]
    step = -(-width * CHANNELS // GROUP_BYTES) * GROUP_BYTES + GROUP_BYTES
    rows = np.empty((down.last - down.first, step), np.uint8)
    strip = np.empty((across.last - across.first + 1, GROUP_BYTES), np.uint8)
    done = 0
    for pixels in _strips(image, across, first + down.first, first + down.last):
        native_library().overlock_resample_rows(
            pixels.address,
            *across.addresses,
            strip.ctypes.data,
            rows[done:].ctypes.data,
            pixels.rows,
            len(strip) - 1,
            pixels.step,
            width,
            across.taps,
            step,
        )
        done += pixels.rows
    resized = np.empty((height, width, CHANNELS), np.uint8)
    native_library().overlock_resample_columns(
        rows.ctypes.data,
        *down.addresses,
        resized.ctypes.data,
        step,
        width * CHANNELS,
        height,
        down.taps,
    )
    return resized


def _rows_in_reach(
    box: Box, size: Size, height: int, interpolation: Interpolation
) -> tuple[int, int]:
    """Return the rows that resizing a box to a size reads: the first, and one past the last."""
    reach = REACH[interpolation] * max(1.0, (box[3] - box[1]) / size[1]) + 1
    return max(0, floor(box[1] - reach)), min(height, ceil(box[3] + reach))


@dataclass(frozen=True)
class Weights:
    """Filter weights along one axis, for the pixels of a crop of the resized image.

    Attributes:
        starts: (pixels,) int32, first source pixel of each, counted from ``first``.
        counts: (pixels,) int32, number of source pixels of each.
        values: (pixels, taps) int32, fixed-point with ``FRACTION_BITS``; 0 past a pixel's count.
        first: first source pixel of all.
        last: one past the last source pixel of all.
    """

    starts: NDArray[np.int32]
    counts: NDArray[np.int32]
    values: NDArray[np.int32]
    first: int
    last: int

    @property
    def taps(self) -> int:
        """Maximum number of source pixels that contribute to one pixel."""
        return int(self.values.shape[1])

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Addresses of the arrays, for the kernel."""
        return self.starts.ctypes.data, self.counts.ctypes.data, self.values.ctypes.data


@lru_cache(KEPT_WEIGHTS)
def weights(
    source_size: int,
    start: float,
    end: float,
    size: int,
    crop_start: int,
    crop_end: int,
    interpolation: Interpolation = "bicubic",
) -> Weights:
    """Return the weights that resize an axis from ``start`` to ``end``, for a crop of the result.

    Args:
        source_size: length of the axis, pixels.
        start: start of the resized part, pixels.
        end: end of the resized part, pixels.
        size: length of the result, pixels.
        crop_start: first pixel of the crop in the result.
        crop_end: one past the last pixel of the crop.
        interpolation: the filter.
    """
    # Single precision, as Pillow takes its box.
    begin = np.float32(start)
    scale = float(np.float32(end) - begin) / size
    filter_scale = max(scale, 1.0)
    support = REACH[interpolation] * filter_scale
    centres = float(begin) + (np.arange(crop_start, crop_end) + 0.5) * scale
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.int64), source_size)
    counts = ends - starts
    taps = np.arange(counts.max())
    distances = (starts[:, None] + taps - centres[:, None] + 0.5) * (1.0 / filter_scale)
    values = np.where(taps < counts[:, None], _FILTERS[interpolation](np.abs(distances)), 0.0)
    # One after another, as Pillow adds them: numpy's sum would round differently.
    values /= np.add.accumulate(values, axis=1)[:, -1:]
    halves = np.where(values < 0, -0.5, 0.5)
    first = int(starts[0])
    return Weights(
        starts=(starts - first).astype(np.int32),
        counts=counts.astype(np.int32),
        values=(halves + values * (1 << FRACTION_BITS)).astype(np.int32),
        first=first,
        last=int(ends[-1]),
    )


def _bicubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the filter's value at distances from 0 on; Keys's cubic with a = -0.5."""
    x, a = distances, -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _bilinear(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the triangle's value at distances from 0 on."""
    return np.maximum(1.0 - distances, 0.0)


_FILTERS: dict[Interpolation, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "bicubic": _bicubic,
    "bilinear": _bilinear,
}


@dataclass(frozen=True)
class _Strip:
    """Rows of an image in memory.

    Attributes:
        address: address of the first column that is read; a pixel has 4 bytes.
        step: bytes from one row to the next.
        rows: number of rows.
        owner: object that keeps the memory alive.
    """

    address: int
    step: int
    rows: int
    owner: Any


def _strips(image: Image.Image, across: Weights, top: int, bottom: int) -> Iterator[_Strip]:
    """Yield the rows from ``top`` to ``bottom``, starting at the first column that is read."""
    try:
        memory = pixel_memory(image)
    except SeveralBlocksError:
        height = max(1, STRIP_PIXELS // (across.last - across.first))
        for row in range(top, bottom, height):
            end = min(row + height, bottom)
            memory = pixel_memory(image.crop((across.first, row, across.last, end)))
            yield _Strip(memory.address, memory.row_bytes, end - row, memory)
    else:
        address = memory.address + top * memory.row_bytes + 4 * across.first
        yield _Strip(address, memory.row_bytes, bottom - top, memory)
