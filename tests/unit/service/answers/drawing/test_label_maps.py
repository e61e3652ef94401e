"""The label map's PNG: what a reader gets back."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from model.labels.palettes import class_colors, palette_of
from model.labels.tables import ade20k_palette
from model.scenes.scenes import SEGMENT_NAMES
from service.answers.drawing.label_maps import label_map_png


@pytest.mark.parametrize("num_classes", [2, 11, 150, 256])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (37, 53)])
def test_pixel_values_are_class_ids(height: int, width: int, num_classes: int) -> None:
    label_map = random_labels(height, width, num_classes)
    with Image.open(BytesIO(label_map_png(label_map, class_colors(num_classes)))) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), label_map)


@pytest.mark.parametrize("palette", [ade20k_palette(), palette_of(SEGMENT_NAMES)])
def test_viewers_see_the_classes_colours(palette: tuple[tuple[int, int, int], ...]) -> None:
    label_map = random_labels(20, 30, len(palette))
    with Image.open(BytesIO(label_map_png(label_map, palette))) as image:
        seen = np.asarray(image.convert("RGB"))
    assert np.array_equal(seen, np.array(palette)[label_map])


def test_few_classes_still_take_eight_bits_a_pixel() -> None:
    # Pillow would pack two classes into one bit, and readers then differ in what a value is.
    file = label_map_png(random_labels(8, 8, 2), class_colors(2))
    header = file[file.index(b"IHDR") + 4 :]
    width, height, bits, color_type = struct.unpack(">IIBB", header[:10])
    assert (width, height, bits, color_type) == (8, 8, 8, 3)


def test_label_map_may_be_a_view() -> None:
    label_map = random_labels(20, 30, 5)[::2, ::3]
    with Image.open(BytesIO(label_map_png(label_map, class_colors(5)))) as image:
        assert np.array_equal(np.asarray(image), label_map)


def random_labels(height: int, width: int, num_classes: int) -> np.ndarray:
    """Return a random label map."""
    generator = np.random.default_rng(0)
    return generator.integers(0, num_classes, (height, width)).astype(np.uint8)
