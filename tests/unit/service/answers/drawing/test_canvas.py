"""Tints and outlines, pixel by pixel."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.answers.drawing import canvas as canvas_module
from service.answers.drawing.canvas import canvas_of, encode_png, line_width, paint_regions

RED, GREEN = (250, 10, 20), (30, 200, 40)


def test_canvas_is_the_image_in_opencvs_order() -> None:
    image = noise(31, 17)
    assert np.array_equal(canvas_of(image), np.asarray(image)[..., ::-1])


def test_copies_of_the_image_stand_side_by_side() -> None:
    image = noise(31, 17)
    assert np.array_equal(canvas_of(image, copies=3), np.tile(canvas_of(image), (1, 3, 1)))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (300, 1), (53, 37)])
def test_file_holds_the_canvas_as_rgb(width: int, height: int) -> None:
    image = noise(width, height)
    with Image.open(BytesIO(encode_png(canvas_of(image)))) as decoded:
        assert (decoded.format, decoded.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(decoded), np.asarray(image))


def test_pixel_inside_a_region_is_half_its_own_and_half_the_classs() -> None:
    image = noise(60, 40)
    regions = halves(40, 60)
    got = painted(image, regions, [RED, GREEN]).astype(float)
    inside = np.abs(np.arange(60) - 29.5) > line_width(40, 60)
    want = (np.asarray(image) + np.array([RED, GREEN])[regions]) / 2
    assert np.abs(got - want)[:, inside].max() <= 0.5  # rounded


def test_outline_is_the_regions_colour_on_its_own_side_of_the_border() -> None:
    got = painted(noise(60, 40), halves(40, 60), [RED, GREEN])
    assert (got[:, 29] == RED).all()
    assert (got[:, 30] == GREEN).all()


def test_borders_of_the_image_are_no_outline() -> None:
    image = Image.new("RGB", (60, 40))
    got = painted(image, np.zeros((40, 60), np.uint8), [RED])
    assert (got == np.array(RED) // 2).all()


def test_region_without_a_colour_stays_as_it_is() -> None:
    image, regions = noise(60, 40), halves(40, 60)
    got = painted(image, regions, [None, GREEN])
    assert np.array_equal(got[regions == 0], np.asarray(image)[regions == 0])
    assert (got[regions == 1] != np.asarray(image)[regions == 1]).any(axis=1).mean() > 0.95


@pytest.mark.parametrize(("side", "width"), [(32, 1), (375, 2), (3000, 12)])
def test_lines_grow_with_the_image(side: int, width: int) -> None:
    assert line_width(side, 2 * side) == width


def test_outline_is_as_wide_as_a_line() -> None:
    regions = halves(750, 800)
    got = painted(Image.new("RGB", (800, 750)), regions, [RED, GREEN])
    is_line = (got[100] == np.array([RED, GREEN])[regions[100]]).all(axis=1)
    assert is_line.sum() == 2 * line_width(750, 800) == 6


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(700, 750)
    tiles = np.random.default_rng(1).integers(0, 2, (75, 70), dtype=np.uint8)
    regions = np.kron(tiles, np.ones((10, 10), np.uint8))
    want = painted(image, regions, [RED, GREEN])
    monkeypatch.setattr(canvas_module, "STRIP_PIXELS", 700)
    assert np.array_equal(painted(image, regions, [RED, GREEN]), want)


def test_painting_needs_no_second_image() -> None:
    canvas = np.zeros((3000, 4000, 3), np.uint8)
    regions = halves(3000, 4000)
    tracemalloc.start()
    try:
        paint_regions(canvas, regions, [RED, GREEN])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < canvas.nbytes / 4


def painted(
    image: Image.Image, regions: np.ndarray, colors: list[tuple[int, int, int] | None]
) -> np.ndarray:
    """Return the painted image, RGB."""
    canvas = canvas_of(image)
    paint_regions(canvas, regions, colors)
    return canvas[..., ::-1]


def halves(height: int, width: int) -> np.ndarray:
    """Return region 0 on the left and 1 on the right."""
    regions = np.zeros((height, width), np.uint8)
    regions[:, width // 2 :] = 1
    return regions


def noise(width: int, height: int) -> Image.Image:
    """Return random pixels, the same ones for the same size."""
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
