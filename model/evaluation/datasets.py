"""Data sets for classification and segmentation: folders of images.

A data set knows how many items it has and reads one at a time, already in the network's geometry:
decoding and resizing happen where ``read`` is called, in a thread beside the network.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from model.evaluation.images import (
    IMAGE_SUFFIXES,
    EvaluationError,
    list_images,
    read_image,
    read_label_map,
)
from model.evaluation.metrics import IGNORED_CLASS
from model.labels.tables import imagenet_labels, imagenet_wordnet_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

Prepare = Callable[[Image.Image], "NDArray[np.uint8]"]
"""Resizes an RGB image for the network: (h, w, 3) uint8."""


@dataclass(frozen=True)
class ClassifiedImage:
    """An image with its class.

    Attributes:
        pixels: the network's input, uint8 (h, w, 3).
        class_id: its class, by the network's class ids.
    """

    pixels: NDArray[np.uint8]
    class_id: int


@dataclass(frozen=True)
class SegmentedImage:
    """An image with the class of every pixel.

    Attributes:
        pixels: the network's input, uint8 (h, w, 3).
        label_map: class ids, uint8 (H, W) at the annotation's size; 255 is ignored.
    """

    pixels: NDArray[np.uint8]
    label_map: NDArray[np.uint8]


class ImageFolder:
    """Images in a folder for each class, ImageNet's layout: ``FOLDER/n01440764/x.JPEG``.

    The order is a fixed shuffle (by a hash of the folder's and the file's name), so that a part of
    the data is a fair sample of it.

    Args:
        folder: holds the class folders; hidden ones are ignored.
        labels: the network's class names, in the order of the class ids.
        prepare: resizes an image for the network.

    Raises:
        EvaluationError: if there are no images, or the folders are not the network's classes.
    """

    def __init__(self, folder: Path, labels: Sequence[str], prepare: Prepare) -> None:
        if not folder.is_dir():
            raise EvaluationError(f"There is no folder {folder}.")
        names = sorted(
            path.name
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
        class_ids, is_imagenet = class_ids_of_folders(folder, names, labels)
        paths = [
            (path, class_ids[name])
            for name in names
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES
        ]
        if not paths:
            raise EvaluationError(f"There are no images in the class folders of {folder}.")
        self.covers_all_classes = len(names) == len(labels)
        self._items = sorted(paths, key=lambda item: _digest(item[0].relative_to(folder)))
        self._prepare = prepare
        self._upright = not is_imagenet

    def __len__(self) -> int:
        return len(self._items)

    def read(self, index: int) -> ClassifiedImage:
        """Decode one image."""
        path, class_id = self._items[index]
        image = read_image(path, upright=self._upright)
        return ClassifiedImage(self._prepare(image), class_id)


def class_ids_of_folders(
    folder: Path, names: Sequence[str], labels: Sequence[str]
) -> tuple[dict[str, int], bool]:
    """Find the class id of each class folder.

    By WordNet ids where the network has ImageNet's classes, by label where every folder is named
    like one, and otherwise in the order of the names, as torchvision numbers them.

    Args:
        folder: where they are, for the message.
        names: of the class folders, sorted.
        labels: the network's class names.

    Returns:
        The class ids by folder name, and whether the names are WordNet ids.

    Raises:
        EvaluationError: if neither fits.
    """
    wordnet_ids = imagenet_wordnet_ids() if tuple(labels) == imagenet_labels() else ()
    for known in (wordnet_ids, labels):
        # Two of ImageNet's classes are called "crane".
        times = Counter(known)
        ids = {name: class_id for class_id, name in enumerate(known) if times[name] == 1}
        if names and ids.keys() >= set(names):
            return {name: ids[name] for name in names}, known is wordnet_ids
    if len(names) == len(labels):
        return {name: class_id for class_id, name in enumerate(names)}, False
    raise EvaluationError(
        f"{folder} has {len(names)} class folders, the model has {len(labels)} classes, and the "
        "folders are not named like its classes."
    )


class SegmentationFolder:
    """Images with annotations, ADE20K's layout: ``images/validation``, ``annotations/validation``.

    The two folders may also hold the files directly.

    Args:
        folder: holds ``images`` and ``annotations``.
        num_classes: of the network.
        reduce_zero_label: whether 0 in an annotation is ignored and class ids start at 1.
        prepare: resizes an image for the network.

    Raises:
        EvaluationError: if there are no images, no annotations, or too many classes.
    """

    covers_all_classes = True

    def __init__(
        self, folder: Path, num_classes: int, *, reduce_zero_label: bool, prepare: Prepare
    ) -> None:
        if not folder.is_dir():
            raise EvaluationError(f"There is no folder {folder}.")
        if num_classes > IGNORED_CLASS:
            raise EvaluationError(
                f"The model has {num_classes} classes; annotations of 8 bits hold {IGNORED_CLASS}."
            )
        part = "validation" if (folder / "images" / "validation").is_dir() else "."
        self._images = list_images(folder / "images" / part)
        self._annotations = folder / "annotations" / part
        if not self._annotations.is_dir():
            raise EvaluationError(f"There is no folder {self._annotations}.")
        self._num_classes = num_classes
        self._reduce_zero_label = reduce_zero_label
        self._prepare = prepare

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> SegmentedImage:
        """Decode one image and its annotation."""
        path = self._images[index]
        annotation = self._annotations / f"{path.stem}.png"
        image, label_map = read_image(path), read_label_map(annotation)
        if label_map.shape != (image.height, image.width):
            raise EvaluationError(
                f"{path} has {image.width}x{image.height} pixels, its annotation {annotation} "
                f"{label_map.shape[1]}x{label_map.shape[0]}."
            )
        if self._reduce_zero_label:
            label_map = without_zero_label(label_map)
        known = label_map[label_map != IGNORED_CLASS]
        if known.size and known.max() >= self._num_classes:
            raise EvaluationError(
                f"The annotation {annotation} has class {known.max()}, the model has classes 0 to "
                f"{self._num_classes - 1}."
            )
        return SegmentedImage(self._prepare(image), label_map)


def without_zero_label(label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Ignore label 0 and let class ids start at 1, as mmsegmentation does: 255 stays ignored."""
    reduced = label_map - np.uint8(1)  # 0 wraps to 255
    reduced[label_map == IGNORED_CLASS] = IGNORED_CLASS
    return reduced


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode()).digest()
