"""Heat maps: colours at the cells and between them, the frame, the legend, every size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.answers.drawing import canvas as canvas_module
from service.answers.drawing.canvas import line_width
from service.answers.drawing.color_scale import ColorScale
from service.answers.drawing.heat_maps import MAX_COVERED, OPACITY, HeatMap, heat_maps_png
from service.api.schemas import Region

GRID = np.random.default_rng(0).permutation(49).reshape(7, 7).astype(np.float32)
"""49 values that all differ."""

CAPTIONS = ("focus: star 98 %", "star 98 %", "star", "focus")
WHOLE = Region(x=0, y=0, width=700, height=700)
BLACK = (0, 0, 0)


@pytest.mark.parametrize("count", [1, 2])
def test_maps_stand_side_by_side(count: int) -> None:
    grids = [GRID, -GRID][:count]
    got = drawn(noise(60, 40), grids, square_of(60, 40))
    assert got.shape == (40, count * 60, 3)
    for place, grid in enumerate(grids):
        alone = drawn(noise(60, 40), [grid], square_of(60, 40))
        assert np.array_equal(got[:, 60 * place : 60 * (place + 1)], alone)


def test_outside_of_its_frame_the_image_stays() -> None:
    got, image = drawn(noise(500, 300), [GRID], square_of(500, 300)), np.asarray(noise(500, 300))
    line = line_width(300, 500)
    outside = np.ones((300, 500), bool)
    outside[:, 100 - 2 * line : 400 + 2 * line] = False
    assert np.array_equal(got[outside], image[outside])
    assert (got[:, 100:400] != image[:, 100:400]).any(axis=2).mean() > 0.99
    for dark, light in ((100 - 2 * line, 100 - line), (400 + line, 400)):
        assert (got[:, dark : dark + line] == 0).all()
        assert (got[:, light : light + line] == 255).all()


def test_a_map_of_the_whole_image_has_no_frame() -> None:
    flat = drawn(Image.new("RGB", (300, 300)), [np.zeros((7, 7))], square_of(300, 300))
    # The middle of the table lies between two of its colours, which can hardly be told apart.
    assert np.ptp(flat, axis=(0, 1)).max() <= 1


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_the_middle_of_a_cell_has_the_colour_of_its_logit(grey: int) -> None:
    # Of 91 pixels each of the 7 cells has 13, and so one in its middle.
    got = drawn(Image.new("RGB", (91, 91), (grey,) * 3), [GRID], square_of(91, 91))
    levels = np.rint(ColorScale.of(GRID).levels(GRID)).astype(np.uint8)
    want = OPACITY * ColorScale.colors(levels)[..., ::-1] + (1 - OPACITY) * grey
    assert np.abs(got[6::13, 6::13] - want).max() <= 1


def test_between_the_middles_of_two_cells_colours_go_straight_on() -> None:
    # From 0 to 1 over the 100 pixels from the middle of the left cell to that of the right one.
    got = drawn(Image.new("RGB", (200, 60)), [np.array([[0.0, 1]])], whole(200, 60))
    places = np.clip((np.arange(200) + 0.5 - 50) / 100, 0, 1)
    levels = np.rint(255 * places).astype(np.uint8)
    want = OPACITY * ColorScale.colors(levels[None])[..., ::-1]
    assert np.abs(got - want).max() <= 1
    assert (got[:, :50] == got[:, :1]).all()
    assert (got[:, 150:] == got[:, -1:]).all()


def test_no_edge_is_drawn_between_the_most_different_cells() -> None:
    board = np.indices((7, 7)).sum(axis=0) % 2
    got = drawn(Image.new("RGB", (700, 700)), [board], WHOLE).astype(int)
    # A pixel is 2.55 levels of the table, at most 3 when rounded.
    table = ColorScale.colors(np.arange(256, dtype=np.uint8)[None])[0].astype(int)
    steepest = OPACITY * np.abs(table[3:] - table[:-3]).max() + 1
    assert steepest < 8
    assert max(np.abs(np.diff(got, axis=axis)).max() for axis in (0, 1)) <= steepest


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_larger_the_logit_the_lighter_its_place(grey: int) -> None:
    got = drawn(Image.new("RGB", (91, 91), (grey,) * 3), [GRID], square_of(91, 91))
    lights = luminance(got[6::13, 6::13]).ravel()[np.argsort(GRID, axis=None)]
    assert (np.diff(lights) > 0).all()


def test_a_pixel_of_any_colour_gets_lighter_with_its_logit() -> None:
    image = noise(91, 91)
    lights = []
    for level in range(11):
        # The ends of the scale are in the first two cells; all others have one logit.
        grid = np.full((7, 7), level / 10)
        grid[0, :2] = 0, 1
        lights.append(luminance(drawn(image, [grid], square_of(91, 91)))[30:])
    # Each channel is rounded twice, to 1 in all; a step adds 5 and more.
    assert np.diff(lights, axis=0).min() > 0


def test_the_map_outweighs_the_image() -> None:
    image = Image.new("RGB", (200, 60), (255, 255, 255))
    image.paste(BLACK, (100, 0, 200, 60))
    lights = luminance(drawn(image, [np.array([[0.0, 1]])], whole(200, 60)))
    # White under the smallest logit is darker than black under the largest.
    assert lights[0, 0] < lights[0, -1]


def test_the_image_below_stays_readable() -> None:
    image = noise(100, 100)
    got = drawn(image, [np.zeros((7, 7))], square_of(100, 100))
    wanted = (1 - OPACITY) * np.asarray(image.convert("L"), float)
    for channel in range(3):
        rest = got[..., channel] - wanted
        assert np.ptp(rest) < 2.5  # the grey, the level and the mixture are rounded


def test_looks_have_scales_of_their_own() -> None:
    left, right = np.split(drawn(noise(300, 300), [GRID, 3 * GRID - 50], square_of(300, 300)), 2, 1)
    assert np.array_equal(left, right)


def test_the_scale_at_the_lower_left_says_what_the_colours_mean() -> None:
    one, other = (
        drawn(noise(600, 400), [grid], square_of(600, 400), CAPTIONS) for grid in (GRID, 3 * GRID)
    )
    rows, columns = (one != other).any(axis=2).nonzero()
    assert len(rows) > 20
    assert rows.min() > 350
    assert columns.max() < 250


def test_the_tag_at_the_upper_left_says_what_is_drawn() -> None:
    one, other = (
        drawn(noise(600, 400), [GRID], square_of(600, 400), [text])
        for text in ("focus: star 98 %", "focus: ring 98 %")
    )
    rows, columns = (one != other).any(axis=2).nonzero()
    assert len(rows) > 20
    assert rows.max() < 50
    assert columns.max() < 250


def test_a_tag_without_room_is_shorter() -> None:
    image, region = noise(64, 64), square_of(64, 64)
    short = drawn(image, [GRID], region, ("star 98 %",))
    assert np.array_equal(drawn(image, [GRID], region, CAPTIONS), short)
    assert not np.array_equal(drawn(image, [GRID], region), short)


@given(height=st.integers(1, 400), width=st.integers(1, 400))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_the_legend_leaves_most_of_any_image(height: int, width: int) -> None:
    image, region = noise(width, height), square_of(width, height)
    plain, named = (drawn(image, [GRID], region, captions) for captions in ((), CAPTIONS))
    assert named.shape == (height, width, 3)
    assert (plain != named).any(axis=2).mean() <= MAX_COVERED


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 700), (5000, 1), (3, 2), (32, 32), (64, 64)]
)
def test_small_and_thin_images_are_drawn(height: int, width: int) -> None:
    image = Image.new("RGB", (width, height), (0, 255, 0))
    got = drawn(image, [GRID, -GRID], square_of(width, height), CAPTIONS)
    assert got.shape == (height, 2 * width, 3)
    for panel in np.split(got, 2, 1):
        assert (panel != (0, 255, 0)).any(axis=2).sum() >= min(height, width) ** 2


def test_a_part_smaller_than_a_pixel_is_drawn_on_that_pixel() -> None:
    got = drawn(Image.new("RGB", (9, 9)), [GRID], Region(x=4.6, y=4.6, width=0.3, height=0.3))
    rows, columns = ((got != 0) & (got != 255)).any(axis=2).nonzero()
    assert (rows.tolist(), columns.tolist()) == ([4], [4])


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    want = drawn(noise(200, 150), [GRID, -GRID], square_of(200, 150))
    monkeypatch.setattr(canvas_module, "STRIP_PIXELS", 200)
    assert np.array_equal(drawn(noise(200, 150), [GRID, -GRID], square_of(200, 150)), want)


def test_drawing_needs_no_second_picture() -> None:
    image = Image.new("RGB", (3000, 2000), (9, 99, 200))
    tracemalloc.start()
    try:
        drawn_file(image, [GRID, -GRID], square_of(3000, 2000))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1.5 * 2 * 3 * 3000 * 2000  # the picture, its file and strips


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_picture_that_nobody_wants_is_not_drawn(calls: int) -> None:
    left = iter(range(calls))

    def stop() -> None:
        if next(left, None) is None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        drawn_file(Image.new("RGB", (1000, 1000)), [GRID], WHOLE, (), stop)


def whole(width: int, height: int) -> Region:
    return Region(x=0, y=0, width=width, height=height)


def square_of(width: int, height: int) -> Region:
    """Return the largest square in the middle, as a classifier sees it."""
    side = min(width, height)
    return Region(x=(width - side) / 2, y=(height - side) / 2, width=side, height=side)


def noise(width: int, height: int) -> Image.Image:
    """Return random pixels, the same ones for the same size."""
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Return the luminance of RGB pixels, as encoded, 0 to 255."""
    return np.asarray(pixels @ np.array([0.2126, 0.7152, 0.0722]))


def drawn_file(
    image: Image.Image,
    grids: list[np.ndarray],
    region: Region,
    captions: tuple[str, ...] | list[str] = (),
    raise_if_cancelled: Callable[[], None] = lambda: None,
) -> bytes:
    """Draw maps that have the same captions."""
    maps = [HeatMap(grid, captions) for grid in grids]
    return heat_maps_png(image, maps, region, raise_if_cancelled=raise_if_cancelled)


def drawn(
    image: Image.Image,
    grids: list[np.ndarray],
    region: Region,
    captions: tuple[str, ...] | list[str] = (),
) -> np.ndarray:
    """Draw maps and read the picture back, RGB."""
    with Image.open(BytesIO(drawn_file(image, grids, region, captions))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        return np.asarray(picture)
