from __future__ import annotations

import numpy as np

from model.scenes.mosaics import draw_mosaic
from model.scenes.scenes import draw_scene


def test_a_mosaic_is_its_scenes_side_by_side() -> None:
    mosaic = draw_mosaic(7, rows=2, columns=3, side=64)
    assert mosaic.image.shape == (128, 192, 3)
    for place in range(6):
        row, column = divmod(place, 3)
        window = np.s_[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
        scene = draw_scene(7 + place, 64, 64)
        np.testing.assert_array_equal(mosaic.image[window], scene.image)
        np.testing.assert_array_equal(mosaic.label_map[window], scene.label_map)
    assert mosaic.label == draw_scene(7, 64, 64).label
