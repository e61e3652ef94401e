from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation.images import EvaluationError, list_images, read_image, read_label_map

ORIENTATION_TAG = 0x0112
QUARTER_TURN = 6


def test_a_grey_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("L", (6, 4), 90).save(tmp_path / "grey.jpg")
    image = read_image(tmp_path / "grey.jpg")
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (90, 90, 90)


@pytest.mark.parametrize(("upright", "size"), [(True, (4, 6)), (False, (6, 4))])
def test_the_orientation_is_applied_on_demand(
    tmp_path: Path, upright: bool, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = QUARTER_TURN
    Image.new("RGB", (6, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", upright=upright).size == size


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8 no image")
    with pytest.raises(EvaluationError, match=r"broken\.jpg cannot be read"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_an_annotation_keeps_its_class_ids(tmp_path: Path, mode: str) -> None:
    ids = np.array([[0, 1, 150], [255, 7, 0]], np.uint8)
    annotation = Image.fromarray(ids)
    if mode == "P":
        annotation = Image.frombytes("P", (3, 2), ids.tobytes())
        annotation.putpalette(bytes(range(255, -1, -1)) * 3)
    annotation.save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "ids.png"), ids)


def test_a_coloured_annotation_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "color.png")
    with pytest.raises(EvaluationError, match=r"color\.png is no 8-bit image of one channel"):
        read_label_map(tmp_path / "color.png")


def test_a_missing_annotation_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"annotation .*gone\.png cannot be read"):
        read_label_map(tmp_path / "gone.png")


def test_images_come_by_name_and_other_files_do_not(tmp_path: Path) -> None:
    for name in ("b.JPEG", "a.png", "c.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPEG"]


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_without_images_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EvaluationError, match=r"There (are no images in|is no folder)"):
        list_images(tmp_path / name)
