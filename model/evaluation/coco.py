"""COCO's data set: a folder of images, and a JSON file of annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from model.evaluation.images import EvaluationError, read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEEDED_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}


@dataclass(frozen=True)
class CocoImage:
    """An image of the data set.

    Attributes:
        pixels: the network's input before padding, uint8 (h, w, 3).
        image_id: its id in the annotations.
        size: (height, width) of the original.
    """

    pixels: NDArray[np.uint8]
    image_id: int
    size: tuple[int, int]


class CocoDataset:
    """Images with COCO annotations, in the order of their ids.

    Args:
        annotations: the JSON file, see ``read_annotations``.
        folder: holds the images.
        class_category_ids: category ids of the network's classes, see ``category_ids``.
        prepare: resizes an image for the network.
    """

    def __init__(
        self,
        annotations: COCO,
        folder: Path,
        class_category_ids: Sequence[int | None],
        prepare: Callable[[Image.Image], NDArray[np.uint8]],
    ) -> None:
        if not folder.is_dir():
            raise EvaluationError(f"There is no folder {folder}.")
        self._images = sorted(annotations.dataset["images"], key=lambda image: image["id"])
        self.covers_all_classes = None not in class_category_ids
        self._folder = folder
        self._prepare = prepare

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> CocoImage:
        """Decode one image."""
        facts = self._images[index]
        path = self._folder / facts["file_name"]
        image = read_image(path)
        if (image.width, image.height) != (facts["width"], facts["height"]):
            raise EvaluationError(
                f"{path} has {image.width}x{image.height} pixels, the annotations say "
                f"{facts['width']}x{facts['height']}."
            )
        return CocoImage(self._prepare(image), facts["id"], (image.height, image.width))


def read_annotations(path: Path) -> COCO:
    """Read an annotation file.

    Raises:
        EvaluationError: if it is missing, damaged, or lacks entries that the metric needs.
    """
    try:
        contents = json.loads(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"There is no annotation file {path}: {error.strerror}.") from error
    except ValueError as error:
        raise EvaluationError(f"The annotation file {path} is no JSON: {error}") from error
    for part, keys in NEEDED_KEYS.items():
        entries = contents.get(part) if isinstance(contents, dict) else None
        if not isinstance(entries, list) or not entries:
            raise EvaluationError(f"The annotation file {path} has no list of {part}.")
        for key in keys:
            if not all(isinstance(entry, dict) and key in entry for entry in entries):
                raise EvaluationError(f"The annotation file {path} has {part} without {key!r}.")
    annotations = COCO()
    annotations.dataset = contents
    with redirect_stdout(StringIO()):
        annotations.createIndex()
    return annotations


def category_ids(annotations: COCO, labels: Sequence[str]) -> tuple[int | None, ...]:
    """Return the category id of each of the network's classes.

    They match by name if every category has the name of a class (None: a class without
    annotations); otherwise by order.

    Raises:
        EvaluationError: if neither fits.
    """
    categories = sorted(annotations.dataset["categories"], key=lambda category: category["id"])
    by_name = {category["name"]: category["id"] for category in categories}
    if by_name.keys() <= set(labels):
        return tuple(by_name.get(label) for label in labels)
    if len(categories) == len(labels):
        return tuple(category["id"] for category in categories)
    raise EvaluationError(
        f"The annotations have {len(categories)} categories, the model has {len(labels)} classes."
    )
