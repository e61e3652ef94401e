"""Colours of logits: as even as eyes can have them, and what the bar says of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.answers.drawing import color_scale
from service.answers.drawing.color_scale import ColorScale, logit_text, scale_face
from service.answers.drawing.heat_maps import OPACITY
from support.color_vision import VISIONS, cielab

STEPS = np.arange(0, 256, 15, dtype=np.uint8)
"""18 places in the table."""

MIN_DIFFERENCE = 4.0
"""Least difference of two steps, in CIELAB, where one of 2.3 is just seen (Mahy et al., 1994)."""

MAX_UNEVENNESS = 3.5
"""Of the largest difference of two steps to the smallest; 10 and more for a rainbow."""

GREY = (90, 90, 90)


def colors_of_steps() -> np.ndarray:
    return ColorScale.colors(STEPS[None])[0, :, ::-1].astype(float)


def differences(vision: str) -> np.ndarray:
    return np.asarray(np.linalg.norm(np.diff(cielab(colors_of_steps(), vision), axis=0), axis=1))


def test_cielab_of_known_colours() -> None:
    known = {(255, 255, 255): (100, 0, 0), (0, 0, 0): (0, 0, 0), (255, 0, 0): (53.2, 80.1, 67.2)}
    np.testing.assert_allclose(cielab(np.array([*known])), [*known.values()], atol=0.1)


@pytest.mark.parametrize("vision", ["protanopia", "deuteranopia"])
def test_red_and_green_of_a_lightness_look_alike_without_a_kind_of_cones(vision: str) -> None:
    red, green = np.array([200.0, 90, 60]), np.array([130.0, 130, 40])
    seen = [float(np.linalg.norm(cielab(red, v) - cielab(green, v))) for v in ("normal", vision)]
    assert seen[1] < seen[0] / 2


@pytest.mark.parametrize("vision", VISIONS)
def test_steps_of_the_table_are_even_and_seen_by_every_eye(vision: str) -> None:
    steps = differences(vision)
    assert steps.min() > MIN_DIFFERENCE
    assert steps.max() / steps.min() < MAX_UNEVENNESS


def test_a_rainbow_is_neither_even_nor_seen_by_every_eye(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color_scale, "TABLE", cv2.COLORMAP_TURBO)
    steps = differences("deuteranopia")
    assert steps.min() < MIN_DIFFERENCE
    assert steps.max() / steps.min() > 2 * MAX_UNEVENNESS


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("ground", [0, 64, 128, 192, 255])
def test_more_is_lighter_on_every_ground_to_every_eye(ground: int, vision: str) -> None:
    drawn = OPACITY * colors_of_steps() + (1 - OPACITY) * ground
    assert np.diff(cielab(drawn, vision)[:, 0]).min() > 1


def test_the_table_is_spread_from_the_smallest_to_the_largest_logit() -> None:
    values = np.array([[-3.0, 2.0], [7.0, 4.5]], np.float32)
    levels = ColorScale.of(values).levels(values)
    np.testing.assert_allclose(levels, [[0, 127.5], [255, 191.25]], rtol=1e-6)


def test_logits_have_the_same_colours_wherever_zero_is() -> None:
    values = np.random.default_rng(0).normal(size=(7, 7))
    np.testing.assert_allclose(
        ColorScale.of(values).levels(values),
        ColorScale.of(values - 40).levels(values - 40),
        rtol=1e-5,
    )


def test_a_map_that_is_nearly_flat_keeps_to_the_middle_of_the_table() -> None:
    values = np.array([[5.0, 5.01]])
    levels = ColorScale.of(values).levels(values)
    assert np.ptp(levels) < 3
    assert abs(levels.mean() - 127.5) < 1
    assert (ColorScale.of(np.full((7, 7), 2.5)).levels(np.full((7, 7), 2.5)) == 127.5).all()


@pytest.mark.parametrize("text_size", [10, 40])
def test_the_bar_runs_through_the_colours_of_the_map(text_size: int) -> None:
    face = scale_face(ColorScale(-3, 20), GREY, text_size, opacity=1)
    row = face[len(face) // 2].astype(int)
    ends = [ColorScale.colors(np.array([[level]], np.uint8))[0, 0, ::-1] for level in (0, 255)]
    first, last = ((row == end).all(axis=1).nonzero()[0] for end in ends)
    bar = row[first[0] : last[-1] + 1]
    assert len(bar) == 6 * text_size
    lightness = cielab(bar.astype(float))[:, 0]
    assert (np.diff(lightness) >= 0).all()
    assert lightness[0] < 1
    assert lightness[-1] > 95


def test_the_bar_of_a_flat_map_has_one_colour() -> None:
    face = scale_face(ColorScale(2, 2), GREY, 20, opacity=1)
    middle = ColorScale.colors(np.array([[128]], np.uint8))[0, 0, ::-1]
    assert (face[len(face) // 2] == middle).all(axis=1).sum() == 6 * 20


@pytest.mark.parametrize(
    ("logit", "written"),
    [(-0.345, "-0.34"), (32.388, "32.39"), (-0.001, "0"), (12, "12"), (4.0e7, "4e+07")],
)
def test_logits_arelogit_text_with_two_decimals(logit: float, written: str) -> None:
    assert logit_text(logit) == written
