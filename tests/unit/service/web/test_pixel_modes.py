from __future__ import annotations

import numpy as np
import pytest
from image_references import grey_rgb, on_white, ramp, scene
from PIL import Image

from service.web.pixel_modes import to_rgb

COLOUR_MODES = {
    "RGB": 0,
    "RGBA": 0,
    "RGBa": 0,
    "RGBX": 0,
    "CMYK": 0,
    # Rounded there, and rounded back.
    "YCbCr": 3,
    "HSV": 6,
}


@pytest.mark.parametrize(("mode", "tolerance"), COLOUR_MODES.items())
def test_opaque_colours_survive_a_mode(mode: str, tolerance: int) -> None:
    rgb = to_rgb(Image.fromarray(scene()).convert(mode))
    assert rgb.mode == "RGB"
    assert np.abs(np.asarray(rgb).astype(int) - scene()).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "LA", "La", "P", "PA"])
def test_grey_survives_a_mode(mode: str) -> None:
    grey = ramp(256).astype(np.uint8)
    image = Image.fromarray(grey).convert("LA" if mode == "La" else "L").convert(mode)
    assert (np.asarray(to_rgb(image)) == grey_rgb(grey)).all()


def test_black_and_white_stay_so() -> None:
    bits = ramp(2).astype(bool)
    assert (np.asarray(to_rgb(Image.fromarray(bits))) == grey_rgb(bits * 255)).all()


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_16_bits_are_scaled_not_clipped(byte_order: str) -> None:
    levels = ramp(65_536).astype(np.uint16)
    mode = {"<u2": "I;16", ">u2": "I;16B"}[byte_order]
    size = levels.shape[1], levels.shape[0]
    image = Image.frombytes(mode, size, levels.astype(byte_order).tobytes())
    assert (np.asarray(to_rgb(image)) == grey_rgb(levels >> 8)).all()


def test_every_opacity_of_every_level_is_rounded_to_the_nearest() -> None:
    level, alpha = np.mgrid[0:256, 0:256]
    pixels = np.stack([level, 255 - level, level // 2, alpha], axis=-1).astype(np.uint8)
    expected = on_white(pixels[..., :3], pixels[..., 3])
    assert (np.asarray(to_rgb(Image.fromarray(pixels))) == expected).all()


def test_rgb_is_not_copied() -> None:
    image = Image.fromarray(scene())
    assert to_rgb(image) is image
