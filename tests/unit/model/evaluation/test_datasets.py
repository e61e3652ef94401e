from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from model.evaluation.datasets import ImageFolder, SegmentationFolder, without_zero_label
from model.evaluation.images import EvaluationError
from model.labels.tables import imagenet_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIENTATION_TAG = 0x0112
QUARTER_TURN = 6
TENCH, GOLDFISH, TOILET_TISSUE = "n01440764", "n01443537", "n15075141"


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def save_image(path: Path, grey: int = 0, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = QUARTER_TURN
    Image.new("L", size, grey).save(path, exif=exif)


def class_ids(folder: Path, labels: tuple[str, ...]) -> dict[int, int]:
    """Class ids by the grey level of the images."""
    data = ImageFolder(folder, labels, pixels_of)
    items = [data.read(index) for index in range(len(data))]
    return {int(item.pixels[0, 0, 0]): item.class_id for item in items}


def test_wordnet_ids_are_imagenets_class_ids_even_if_some_are_missing(tmp_path: Path) -> None:
    save_image(tmp_path / TOILET_TISSUE / "x.png", grey=30)
    save_image(tmp_path / GOLDFISH / "x.png", grey=20)
    assert class_ids(tmp_path, imagenet_labels()) == {20: 1, 30: 999}


def test_folders_named_by_labels_are_found_by_name(tmp_path: Path) -> None:
    save_image(tmp_path / "dog" / "x.png", grey=10)
    save_image(tmp_path / "cat" / "x.png", grey=20)
    assert class_ids(tmp_path, ("dog", "horse", "cat")) == {10: 0, 20: 2}


def test_a_name_that_two_classes_have_finds_neither(tmp_path: Path) -> None:
    save_image(tmp_path / "crane" / "x.png")
    with pytest.raises(EvaluationError, match="not named like its classes"):
        ImageFolder(tmp_path, ("crane", "dog", "crane"), pixels_of)


def test_other_folders_count_in_the_order_of_their_names(tmp_path: Path) -> None:
    save_image(tmp_path / "b" / "x.png", grey=20)
    save_image(tmp_path / "a" / "x.png", grey=10)
    (tmp_path / ".cache").mkdir()
    assert class_ids(tmp_path, ("class 0", "class 1")) == {10: 0, 20: 1}


def test_folders_that_are_not_the_networks_classes_are_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "a" / "x.png")
    with pytest.raises(EvaluationError, match="1 class folders, the model has 2 classes"):
        ImageFolder(tmp_path, ("class 0", "class 1"), pixels_of)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"There is no folder .*gone"):
        ImageFolder(tmp_path / "gone", ("a",), pixels_of)


def test_class_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(EvaluationError, match="There are no images"):
        ImageFolder(tmp_path, ("a",), pixels_of)


def test_the_order_mixes_the_classes_and_is_the_same_wherever_the_folder_is(tmp_path: Path) -> None:
    for place in ("here", "there"):
        for grey, name in enumerate(("a", "b", "c")):
            for number in range(10):
                save_image(tmp_path / place / name / f"{number}.png", grey=grey)
    here, there = (
        ImageFolder(tmp_path / place, ("a", "b", "c"), pixels_of) for place in ("here", "there")
    )
    order = [here.read(index).class_id for index in range(len(here))]
    assert order == [there.read(index).class_id for index in range(len(there))]
    assert set(order[:10]) == {0, 1, 2}


@pytest.mark.parametrize(("covered", "folders"), [(True, ("a", "b")), (False, ("a",))])
def test_it_is_known_whether_all_classes_are_there(
    tmp_path: Path, covered: bool, folders: tuple[str, ...]
) -> None:
    for name in folders:
        save_image(tmp_path / name / "x.png")
    assert ImageFolder(tmp_path, ("a", "b"), pixels_of).covers_all_classes is covered


@pytest.mark.parametrize(
    ("folder", "labels", "shape"),
    [(TENCH, imagenet_labels(), (4, 6, 3)), ("dog", ("dog",), (6, 4, 3))],
)
def test_images_stand_upright_but_imagenets_as_in_the_reference(
    tmp_path: Path, folder: str, labels: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    save_image(tmp_path / folder / "x.jpg")
    assert ImageFolder(tmp_path, labels, pixels_of).read(0).pixels.shape == shape


def save_annotated(folder: Path, part: str, name: str, ids: list[list[int]]) -> None:
    label_map = np.array(ids, np.uint8)
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        path = folder / kind / part / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label_map).save(path)


def segmentation(
    folder: Path, num_classes: int = 3, *, reduce_zero_label: bool = True
) -> SegmentationFolder:
    return SegmentationFolder(
        folder, num_classes, reduce_zero_label=reduce_zero_label, prepare=pixels_of
    )


@pytest.mark.parametrize("part", ["validation", "."])
def test_images_and_annotations_are_paired_by_name(tmp_path: Path, part: str) -> None:
    save_annotated(tmp_path, part, "b", [[2, 2]])
    save_annotated(tmp_path, part, "a", [[1, 1]])
    data = segmentation(tmp_path)
    assert [data.read(index).label_map.tolist() for index in range(len(data))] == [
        [[0, 0]],
        [[1, 1]],
    ]


def test_label_zero_is_ignored_and_the_others_start_at_zero() -> None:
    label_map = np.array([[0, 1, 2, 150, 254, 255]], np.uint8)
    assert without_zero_label(label_map).tolist() == [[255, 0, 1, 149, 253, 255]]


def test_label_zero_can_be_kept(tmp_path: Path) -> None:
    save_annotated(tmp_path, ".", "a", [[0, 2, 255]])
    read = segmentation(tmp_path, reduce_zero_label=False).read(0)
    assert read.label_map.tolist() == [[0, 2, 255]]
    assert read.pixels.shape == (1, 3, 3)


def test_an_annotation_with_more_classes_than_the_network_is_refused(tmp_path: Path) -> None:
    save_annotated(tmp_path, ".", "a", [[1, 4]])
    with pytest.raises(EvaluationError, match=r"a\.png has class 3, the model has classes 0 to 2"):
        segmentation(tmp_path, num_classes=3).read(0)


def test_more_classes_than_a_byte_tells_are_refused(tmp_path: Path) -> None:
    save_annotated(tmp_path, ".", "a", [[1]])
    assert len(segmentation(tmp_path, num_classes=255)) == 1
    with pytest.raises(EvaluationError, match="has 256 classes; annotations of 8 bits hold 255"):
        segmentation(tmp_path, num_classes=256)


def test_a_missing_annotation_is_refused(tmp_path: Path) -> None:
    save_annotated(tmp_path, ".", "a", [[1]])
    (tmp_path / "annotations" / "a.png").unlink()
    with pytest.raises(EvaluationError, match=r"annotation .*a\.png cannot be read"):
        segmentation(tmp_path).read(0)


def test_an_annotation_of_another_size_is_refused(tmp_path: Path) -> None:
    save_annotated(tmp_path, ".", "a", [[1, 1]])
    Image.new("L", (5, 4)).save(tmp_path / "annotations" / "a.png")
    with pytest.raises(EvaluationError, match=r"has 2x1 pixels, its annotation .* 5x4"):
        segmentation(tmp_path).read(0)


@pytest.mark.parametrize("missing", ["images", "annotations"])
def test_a_missing_half_is_refused(tmp_path: Path, missing: str) -> None:
    for name in {"images", "annotations"} - {missing}:
        save_image(tmp_path / name / "a.jpg")
    with pytest.raises(EvaluationError, match=f"There is no folder .*{missing}"):
        segmentation(tmp_path)
