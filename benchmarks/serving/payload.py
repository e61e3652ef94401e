"""The images that are sent: drawn from seeds, with a known best class."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.peer_work import answer, decode
from benchmarks.serving.simulated_device import image_scores
from service.commands.bench.sample_image import HEIGHT, WIDTH, draw_photograph

VARIANTS = 8

FIRST_CLASS = re.compile(rb'"class_id":\s*(\d+)')


@dataclass(frozen=True)
class Payload:
    """An image file with the best class of a right answer.

    Attributes:
        body: the JPEG.
        class_id: of the best class by the simulated device; None if any class is right, as for a
            real network.
        media_type: of the body.
    """

    body: bytes
    class_id: int | None
    media_type: str = "image/jpeg"

    def __str__(self) -> str:
        return "a class" if self.class_id is None else f"class {self.class_id}"

    def is_answered_by(self, answer: bytes) -> bool:
        """Return whether the first class of the answer is the right one."""
        found = FIRST_CLASS.search(answer)
        return found is not None and self.class_id in {None, int(found[1])}


def draw_payloads(width: int = WIDTH, height: int = HEIGHT) -> list[Payload]:
    """Draw images with different best classes."""
    payloads: dict[int, Payload] = {}
    seed = 0
    while len(payloads) < VARIANTS:
        body = draw_photograph(np.random.default_rng(seed), width, height)
        best = answer(image_scores(decode(body)))["predictions"][0]["class_id"]
        payloads.setdefault(best, Payload(body, best))
        seed += 1
    return list(payloads.values())
