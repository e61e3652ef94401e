from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from support.playground_pictures import EXAMPLES_DIR, SEEDS, example_scene


@pytest.mark.parametrize("name", SEEDS)
def test_an_example_is_the_scene_that_its_seed_draws(name: str) -> None:
    with Image.open(EXAMPLES_DIR / f"{name}.webp") as image:
        shown = np.asarray(image.convert("RGB"), np.float64)
    drawn = example_scene(name).image
    assert shown.shape == drawn.shape
    # What WebP loses is mostly the scene's noise; a scene of another seed differs by 50 or more.
    assert np.abs(shown - drawn).mean() < 12


def test_there_is_no_other_example() -> None:
    assert {path.stem for path in EXAMPLES_DIR.iterdir()} == set(SEEDS)
