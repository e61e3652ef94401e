"""YOLO's data format: a text file of labels for each image, a list of images, ``data.yaml``.

A line is an object: class and box of a detection without a mask, class and polygon otherwise.

Source: https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/segment/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from service.commands.batch.datasets.images import FoundImage, FoundImages, FoundObject
from service.commands.batch.datasets.label_paths import LabelPaths
from service.commands.batch.datasets.outlines import polygons_of
from service.commands.batch.file_names import DATA_FILE, IMAGE_LIST
from service.commands.batch.folder import OutputFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILES_AT_ONCE = 64
"""Files of labels that are sent to a bucket together."""


def write_yolo(
    folder: OutputFolder, images: FoundImages, paths: LabelPaths, model: dict[str, Any]
) -> None:
    """Write a data set.

    Args:
        folder: to write to; ``data.yaml`` is the last file in it.
        images: of the run.
        paths: of the files of labels.
        model: as the identity of the run has it.
    """
    with folder.writing(IMAGE_LIST) as listed, listed.open("w", encoding="utf-8") as lines:
        found = iter(images)
        while some := list(islice(found, FILES_AT_ONCE)):
            folder.put({f"labels/{paths.of(each.path)}": _label_file(each) for each in some})
            lines.writelines(f"./images/{paths.image(each.path)}\n" for each in some)
    folder.write(DATA_FILE, _data_file(model["labels"]).encode())


def _data_file(labels: Sequence[str]) -> str:
    # JSON's strings are YAML's too.
    names = "".join(
        f"  {number}: {json.dumps(label, ensure_ascii=False)}\n"
        for number, label in enumerate(labels)
    )
    return f"train: {IMAGE_LIST}\nval: {IMAGE_LIST}\nnc: {len(labels)}\nnames:\n{names}"


def _label_file(image: FoundImage) -> bytes:
    size = np.array([image.width, image.height], np.float64)
    lines = [
        " ".join([str(each.class_id), *(f"{value:.6f}" for value in values.ravel().tolist())])
        for each in image.objects
        for values in _shapes(each, size)
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _shapes(found: FoundObject, size: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield what the lines of an object say after its class, as parts of the image's sides."""
    if found.mask is None:
        assert found.box is not None
        x1, y1, x2, y2 = found.box
        centre = np.array([[x1 + x2, y1 + y2]]) / 2
        yield np.clip(np.concatenate((centre, [[x2 - x1, y2 - y1]])) / size, 0, 1)
        return
    for polygon in polygons_of(found):
        yield np.clip(polygon / size, 0, 1)
