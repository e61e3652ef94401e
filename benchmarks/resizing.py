"""Time a classifier's image from its file to the network's input, step by step.

Every picture is decoded as an HTTP worker does it, then resized and cropped for ``overlock_t`` by
our kernel and by Pillow, in turns; both must make the same bits. For a new size our kernel also
computes its weights, which is a column of its own.

The lower limit: the multiply-adds of Pillow's sums for the crop, and the bytes that are read and
written for it, each once.

    taskset -c 1 python -m benchmarks.resizing
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.machine import describe_machine
from model.config import CLASSIFIERS
from model.images import resampling
from model.images.pillow_memory import PIXEL_BYTES
from model.images.preprocess import classification_input, resized_size
from model.kernels.cpu.library import native_library
from service.commands.bench.sample_image import draw_photograph
from service.images.decode import ImageLimits, decode_image

RESULTS = Path(__file__).parent / "results"
COMMAND = "taskset -c 1 python -m benchmarks.resizing"
GEOMETRY = CLASSIFIERS["overlock_t"].geometry
SIZES = ((313, 235), (640, 480), (1920, 1080), (4000, 3000))
LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768)
TURNS = 15
SHORTEST_SECONDS = 0.01
"""Minimum time of a turn: faster work runs several times in it."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """Times of one picture, medians.

    Attributes:
        picture: size and format of the file.
        decoded: size that it was decoded to; a large JPEG is reduced by its decoder.
        multiply_adds: of the resize, millions.
        megabytes: least amount that the resize reads and writes.
        decode_ms: of decoding.
        pillow_ms: of resizing and cropping by Pillow.
        ours_ms: of resizing and cropping by our kernel.
        ours_new_size_ms: by our kernel, the weights included.
    """

    picture: str
    decoded: str
    multiply_adds: float
    megabytes: float
    decode_ms: float
    pillow_ms: float
    ours_ms: float
    ours_new_size_ms: float


def main() -> None:
    load_at_start = os.getloadavg()
    native_library()
    rows = [measured(*size, kind) for size in SIZES for kind in ("JPEG", "PNG")]
    machine = describe_machine(load_at_start, 1)
    report = {"command": COMMAND, "machine": machine, "pictures": [asdict(row) for row in rows]}
    table = as_markdown(machine, rows)
    (RESULTS / "resizing.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "resizing.md").write_text(table)
    print(table)


def measured(width: int, height: int, kind: str) -> Row:
    """Measure one picture.

    Raises:
        RuntimeError: if our kernel and Pillow differ.
    """
    file = draw_photograph(np.random.default_rng(0), width, height)
    if kind == "PNG":
        png = BytesIO()
        Image.open(BytesIO(file)).save(png, "PNG")
        file = png.getvalue()
    image = decoded(file)

    def ours() -> Pixels:
        return classification_input(image, GEOMETRY)

    def ours_new_size() -> Pixels:
        resampling.weights.cache_clear()
        return ours()

    def pillows() -> Pixels:
        with patch.object(
            resampling, "cpu_kernels_unsupported_reason", lambda: "Pillow is measured"
        ):
            return ours()

    if not np.array_equal(ours(), pillows()):
        raise RuntimeError(f"{width} x {height}: our pixels are not Pillow's.")
    decode, pillow, own, new = medians(lambda: decoded(file), pillows, ours, ours_new_size)
    return Row(
        f"{width}x{height} {kind}",
        f"{image.width}x{image.height}",
        *floor(image),
        decode_ms=decode * 1e3,
        pillow_ms=pillow * 1e3,
        ours_ms=own * 1e3,
        ours_new_size_ms=new * 1e3,
    )


def decoded(file: bytes) -> Image.Image:
    return decode_image(
        file, content_type=None, limits=LIMITS, short_side_needed=GEOMETRY.resize_short_side
    ).image


def floor(image: Image.Image) -> tuple[float, float]:
    """Return the millions of multiply-adds and the megabytes that an image's resize takes."""
    size, crop = resized_size(*image.size, GEOMETRY.resize_short_side), GEOMETRY.crop_size
    written = crop * crop * resampling.CHANNELS
    if size == image.size:
        return 0.0, (crop * crop * PIXEL_BYTES + written) / 1e6
    across, down = (
        resampling.weights(side, 0, side, resized, first, first + crop)
        for side, resized in zip(image.size, size, strict=True)
        for first in [round((resized - crop) / 2)]
    )
    columns, rows = across.last - across.first, down.last - down.first
    sums = rows * int(across.counts.sum()) + crop * int(down.counts.sum())
    return sums * resampling.CHANNELS / 1e6, (columns * rows * PIXEL_BYTES + written) / 1e6


def medians(*works: Callable[[], object]) -> list[float]:
    """Return the seconds of each, the median of turns that they take one after another."""
    repeats = [max(1, round(SHORTEST_SECONDS / seconds_of(work, 1))) for work in works]
    turns = [
        [seconds_of(work, times) for work, times in zip(works, repeats, strict=True)]
        for _ in range(TURNS)
    ]
    return [statistics.median(each) for each in zip(*turns, strict=True)]


def seconds_of(work: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def as_markdown(machine: dict[str, str], rows: list[Row]) -> str:
    """Write the table for people."""
    lines = ["# From an image file to a classifier's input", "", f"`{COMMAND}`", ""]
    lines += [f"- {fact}: {value}" for fact, value in machine.items()]
    lines += [
        "",
        f"Resized to a short side of {GEOMETRY.resize_short_side}, cropped to "
        f"{GEOMETRY.crop_size}; medians of {TURNS} turns. The multiply-adds and the bytes are the "
        "least that the resize can do with.",
        "",
        "| file | decoded to | decoding | multiply-adds | bytes | Pillow | our kernel "
        "| of a new size | multiply-adds/s |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
        *map(as_line, rows),
    ]
    return "\n".join(lines) + "\n"


def as_line(row: Row) -> str:
    gain = f" ({row.pillow_ms / row.ours_ms:.1f}x)" if row.multiply_adds else ""
    rate = f"{row.multiply_adds / row.ours_ms:.1f} G" if row.multiply_adds else "-"
    return (
        f"| {row.picture} | {row.decoded} | {row.decode_ms:.2f} ms | {row.multiply_adds:.1f} M "
        f"| {row.megabytes:.1f} MB | {row.pillow_ms:.2f} ms | {row.ours_ms:.2f} ms{gain} "
        f"| {row.ours_new_size_ms:.2f} ms | {rate} |"
    )


if __name__ == "__main__":
    main()
