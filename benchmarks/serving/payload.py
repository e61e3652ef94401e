"""The images that are sent: drawn, seeded, about as costly to decode as a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.serving.peer_work import answer, decode
from benchmarks.serving.simulated_device import image_scores

WIDTH, HEIGHT = 640, 480
PATCHES = (12, 16)
"""Rows and columns of random colours that are blurred into one another."""

GRAIN = 8.0
"""Standard deviation of the noise on top, grey levels; it makes a file of about 88 KB."""

QUALITY = 85
VARIANTS = 8


@dataclass(frozen=True)
class Payload:
    """One image file and what a right answer to it begins with.

    Attributes:
        body: the JPEG.
        class_id: of the best class by the simulated device.
    """

    body: bytes
    class_id: int


def draw_payloads(width: int = WIDTH, height: int = HEIGHT) -> list[Payload]:
    """Draw images with different best classes."""
    payloads: dict[int, Payload] = {}
    seed = 0
    while len(payloads) < VARIANTS:
        body = _draw(np.random.default_rng(seed), width, height)
        best = answer(image_scores(decode(body)))["predictions"][0]["class_id"]
        payloads.setdefault(best, Payload(body, best))
        seed += 1
    return list(payloads.values())


def _draw(random: np.random.Generator, width: int, height: int) -> bytes:
    patches = Image.fromarray(random.integers(0, 256, (*PATCHES, 3), np.uint8))
    smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = random.normal(0.0, GRAIN, (height, width, 1)).astype(np.float32)
    file = BytesIO()
    pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
