"""Draws the playground's examples: ``python tests/browser/pictures.py``."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from model.demo.scenes import CLASS_NAMES, Scene, draw_scene

EXAMPLES_DIR = Path(__file__).parents[2] / "service/web/playground/examples"
HEIGHT, WIDTH = 480, 640

SEEDS = {
    "crescent": 700_603,
    "heart": 700_701,
    "ring": 700_502,
    "triangle": 700_204,
    "arrow": 700_800,
    "hexagon": 700_900,
}
"""Of the examples, by what they mainly show; chosen by eye among many."""


def example_scene(name: str) -> Scene:
    """Draw an example anew."""
    return draw_scene(SEEDS[name], HEIGHT, WIDTH, CLASS_NAMES.index(name))


def encoded(scene: Scene) -> bytes:
    """Encode a scene as a small file."""
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "WEBP", quality=80, method=6)
    return buffer.getvalue()


if __name__ == "__main__":
    for name in SEEDS:
        (EXAMPLES_DIR / f"{name}.webp").write_bytes(encoded(example_scene(name)))
