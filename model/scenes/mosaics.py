"""Large images of many scenes, for measuring how networks do on images in tiles."""

from __future__ import annotations

import numpy as np

from model.scenes.scenes import Scene, draw_scene


def draw_mosaic(seed: int, rows: int, columns: int, side: int) -> Scene:
    """Draw scenes side by side, each a square with a main shape of its own.

    Args:
        seed: of the first scene; the others have the following ones.
        rows: of scenes.
        columns: of scenes.
        side: of each scene, pixels, 64 or more.

    Returns:
        The image with its ground truth; its label is the first scene's.
    """
    shape = rows * side, columns * side
    image, label_map = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
    label = 0
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        scene = draw_scene(seed + place, side, side)
        window = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        image[window], label_map[window] = scene.image, scene.label_map
        label = scene.label if place == 0 else label
    return Scene(image, label, label_map)
