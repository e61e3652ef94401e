"""From Pillow's pixel modes to 8-bit RGB, without losing what a pixel means."""

from __future__ import annotations

import numpy as np
from PIL import Image

TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB: 16 bits scaled to 8, transparency composited on white.

    Colour profiles are not applied; a network's training images were read the same way.

    Args:
        image: of a mode in which Pillow opens the supported formats; ``I;16`` means the full
            range from 0 to 65,535.
    """
    if image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode in TRANSPARENT_MODES or "transparency" in image.info:
        # From premultiplied grey, Pillow has no direct way.
        return _on_white((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Take the high byte, as Pillow itself does with 16-bit colour; its own conversion clips."""
    levels = np.asarray(image)
    grey = (levels >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[levels == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image, mask=image)
    return canvas
