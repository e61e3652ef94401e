from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from model.scenes.scenes import CLASS_NAMES, SEGMENT_NAMES, draw_scene

if TYPE_CHECKING:
    pass

SEEDS = range(60)
SMALL = 96


def test_the_same_arguments_draw_the_same_scene() -> None:
    one, other = draw_scene(7, 96, 128), draw_scene(7, 96, 128)
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.label_map, other.label_map)
    assert one.label == other.label


def test_another_seed_draws_another_scene() -> None:
    assert not np.array_equal(draw_scene(1, SMALL, SMALL).image, draw_scene(2, SMALL, SMALL).image)


def test_segments_are_the_background_and_then_the_classes() -> None:
    assert ("background", *CLASS_NAMES) == SEGMENT_NAMES
    assert len(set(SEGMENT_NAMES)) == 11


def test_seeds_bring_every_class_about() -> None:
    assert {draw_scene(seed, 64, 64).label for seed in range(100)} == set(range(len(CLASS_NAMES)))


@pytest.mark.parametrize("label", range(len(CLASS_NAMES)))
def test_a_given_class_is_drawn(label: int) -> None:
    scene = draw_scene(3, SMALL, SMALL, label=label)
    assert scene.label == label
    assert (scene.label_map == 1 + label).any()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (224, 224), (64, 200), (301, 97)])
def test_any_size_from_64_pixels_up_is_drawn(height: int, width: int) -> None:
    scene = draw_scene(11, height, width)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.label_map.shape == (height, width)
    assert scene.label_map.dtype == np.uint8


def test_a_shorter_side_is_refused() -> None:
    with pytest.raises(ValueError, match="63 pixels"):
        draw_scene(0, 63, 224)


@pytest.mark.parametrize("label", [-1, len(CLASS_NAMES)])
def test_an_unknown_class_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="not one of 0 to 9"):
        draw_scene(0, SMALL, SMALL, label=label)


def test_the_labelled_shape_covers_more_pixels_than_any_other_class() -> None:
    for seed in SEEDS:
        scene = draw_scene(seed, SMALL, SMALL)
        pixels = np.bincount(scene.label_map.ravel(), minlength=len(SEGMENT_NAMES))[1:]
        rivals = np.delete(pixels, scene.label)
        assert pixels[scene.label] > 2 * rivals.max(), f"seed {seed}"


def test_some_scenes_hold_other_shapes_and_some_do_not() -> None:
    shapes = [len(np.unique(draw_scene(seed, SMALL, SMALL).label_map)) - 1 for seed in SEEDS]
    assert min(shapes) == 1
    assert max(shapes) >= 3


def test_the_main_shape_stands_off_from_its_surroundings() -> None:
    for seed in SEEDS:
        scene = draw_scene(seed, 128, 128)
        shape = scene.image[scene.label_map == 1 + scene.label].mean(axis=0)
        background = scene.image[scene.label_map == 0].mean(axis=0)
        # Noise, light and blur are on top of this: averages leave the colours alone.
        assert np.abs(shape - background).max() > 35, f"seed {seed}"


def test_edges_are_soft() -> None:
    image = draw_scene(5, 224, 224, label=1).image
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100
