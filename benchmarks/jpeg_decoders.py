"""Time the decoders of a large JPEG, in full and reduced while they decode, and compare the pixels.

    pip install 'pyvips[binary]==3.2.0'
    PYTHONPATH=. taskset -c 1 python -m benchmarks.jpeg_decoders

Writes ``benchmarks/results/jpeg-decoders.json`` and ``.md``. All of them are libjpeg-turbo beneath,
or its fork MozJPEG (libvips). Reduced to 1/8 a decoder computes one pixel of a block's 64 and skips
the other coefficients; what remains is almost all Huffman's code, which no reduction spares. The
goal of 25 ms is of a photograph of 4000x3000.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.machine import describe_machine
from benchmarks.resizing import GEOMETRY, LIMITS
from model.images.preprocess import classification_input
from service.commands.bench.sample_image import draw_photograph
from service.images.decode import decode_image

RESULTS = Path(__file__).parent / "results"
COMMAND = "PYTHONPATH=. taskset -c 1 python -m benchmarks.jpeg_decoders"
WIDTH, HEIGHT = 4000, 3000
REDUCTIONS = (1, 2, 4, 8)
"""Factors by which libjpeg can reduce an image."""

SERVICE = "the service"
TURNS = 15

Decode = Callable[[bytes, int], tuple[int, int]]
"""Decodes a file, reduced by a factor, and returns the width and height of the pixels."""


def main() -> None:
    # Its threads would take the time of others; libvips reads it when it is loaded.
    os.environ["VIPS_CONCURRENCY"] = "1"
    load_at_start = os.getloadavg()
    file = draw_photograph(np.random.default_rng(0), WIDTH, HEIGHT)
    milliseconds = measured(file, {"simplejpeg": by_simplejpeg, "Pillow": by_pillow} | libvips())
    machine = describe_machine(load_at_start, 1)
    differences = {
        reduction: difference(file, reduction) for reduction in REDUCTIONS if reduction > 1
    }
    report = {
        "command": COMMAND,
        "machine": machine,
        "file_bytes": len(file),
        "milliseconds": milliseconds,
        "input_differences": differences,
    }
    text = as_markdown(machine, len(file), milliseconds, differences)
    (RESULTS / "jpeg-decoders.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "jpeg-decoders.md").write_text(text)
    print(text)


def by_simplejpeg(file: bytes, reduction: int) -> tuple[int, int]:
    """Decode by libjpeg-turbo's own interface, as the service does."""
    least = (0, 0) if reduction == 1 else (HEIGHT // reduction, WIDTH // reduction)
    pixels = simplejpeg.decode_jpeg(file, "RGB", min_height=least[0], min_width=least[1])
    return pixels.shape[1], pixels.shape[0]


def by_pillow(file: bytes, reduction: int) -> tuple[int, int]:
    """Decode by Pillow's draft mode."""
    image = Image.open(BytesIO(file))
    image.draft("RGB", (WIDTH // reduction, HEIGHT // reduction))
    image.load()
    return image.size


def libvips() -> dict[str, Decode]:
    """Return libvips's decoder."""
    import pyvips

    pyvips.cache_set_max(0)

    def by_libvips(file: bytes, reduction: int) -> tuple[int, int]:
        image = pyvips.Image.jpegload_buffer(file, shrink=reduction)
        image.write_to_memory()
        return image.width, image.height

    return {"libvips": by_libvips}


def by_service(file: bytes, reduction: int) -> tuple[int, int]:
    """Decode as an HTTP worker does."""
    return decoded(file, reduction).size


def decoded(file: bytes, reduction: int) -> Image.Image:
    """Decode for a network that the reduction is just enough for."""
    needed = None if reduction == 1 else HEIGHT // reduction // 2
    return decode_image(file, content_type=None, limits=LIMITS, short_side_needed=needed).image


def measured(file: bytes, decoders: dict[str, Decode]) -> dict[str, dict[int, float]]:
    """Return the processor time in ms by decoder and reduction: medians of turns.

    Raises:
        RuntimeError: if a decoder reduces by another factor.
    """
    decoders = {SERVICE: by_service} | decoders
    times: dict[str, dict[int, list[float]]] = {
        name: {reduction: [] for reduction in REDUCTIONS} for name in decoders
    }
    for _ in range(TURNS):
        for reduction in REDUCTIONS:
            for name, decode in decoders.items():
                started = time.process_time()
                size = decode(file, reduction)
                times[name][reduction].append(1e3 * (time.process_time() - started))
                if size != (WIDTH // reduction, HEIGHT // reduction):
                    raise RuntimeError(f"{name} made {size} of 1/{reduction}.")
    return {
        name: {reduction: statistics.median(each) for reduction, each in by_reduction.items()}
        for name, by_reduction in times.items()
    }


def difference(file: bytes, reduction: int) -> tuple[float, int]:
    """Return how a network's input from a reduced image differs from that of all pixels.

    Returns:
        The mean and the largest absolute difference, in steps of 255.
    """
    full, reduced = (
        classification_input(decoded(file, factor), GEOMETRY).astype(np.int16)
        for factor in (1, reduction)
    )
    steps = np.abs(full - reduced)
    return float(steps.mean()), int(steps.max())


def as_markdown(
    machine: dict[str, str],
    file_bytes: int,
    milliseconds: dict[str, dict[int, float]],
    differences: dict[int, tuple[float, int]],
) -> str:
    """Write the tables for people."""
    lines = ["# Decoders of a large JPEG", "", f"`{COMMAND}`", ""]
    lines += [f"- {fact}: {value}" for fact, value in machine.items()]
    lines += [
        "",
        f"A photograph of {WIDTH}x{HEIGHT}, {file_bytes / 1e6:.1f} MB; processor time on one core, "
        f"ms, medians of {TURNS} turns. For a network of {GEOMETRY.resize_short_side} pixels the "
        "service takes 1/4.",
        "",
        "| decoder | in full | " + " | ".join(f"1/{each}" for each in REDUCTIONS[1:]) + " |",
        "| --- |" + " --: |" * len(REDUCTIONS),
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{times[each]:.1f}" for each in REDUCTIONS) + " |"
        for name, times in milliseconds.items()
    ]
    lines += [
        "",
        "The network's input from a reduced image, compared with that from all pixels, in steps of "
        "255:",
        "",
        "| reduced to | mean difference | largest |",
        "| --- | --: | --: |",
        *(
            f"| 1/{reduction} | {mean:.2f} | {largest} |"
            for reduction, (mean, largest) in differences.items()
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
