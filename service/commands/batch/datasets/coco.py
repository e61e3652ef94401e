"""COCO's data format: one JSON file, with masks as compressed run lengths.

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from pycocotools import mask as coco_mask

from service.commands.batch.datasets.images import FoundImage, FoundImages, FoundObject
from service.commands.batch.datasets.json_lists import encoded, write_list

ANNOTATIONS_OF_AN_IMAGE = 1000
"""More than an image can have: ids follow from the image's, and those of shards never collide."""


def write_coco(file: BinaryIO, images: FoundImages, model: dict[str, Any]) -> None:
    """Write a data set.

    Args:
        file: to write to.
        images: of the run.
        model: as the identity of the run has it.
    """
    info = {"description": "Predictions of overlock batch"} | {
        name: model[name] for name in ("name", "weights", "weights_sha256")
    }
    categories = [{"id": number, "name": label} for number, label in enumerate(model["labels"])]
    file.write(b'{"info":' + encoded(info) + b',\n"licenses":[],\n"categories":')
    write_list(file, categories)
    file.write(b',\n"images":')
    write_list(file, map(_image, images.sizes()))
    file.write(b',\n"annotations":')
    write_list(file, _annotations(images))
    file.write(b"}\n")


def _image(image: FoundImage) -> dict[str, Any]:
    return {
        "id": _image_id(image),
        "file_name": image.path,
        "width": image.width,
        "height": image.height,
    }


def _image_id(image: FoundImage) -> int:
    return image.number + 1


def _annotations(images: FoundImages) -> Iterator[dict[str, Any]]:
    for image in images:
        first = ANNOTATIONS_OF_AN_IMAGE * _image_id(image)
        for number, each in enumerate(image.objects, first):
            yield {"id": number, "image_id": _image_id(image), **_annotation(each)}


def _annotation(found: FoundObject) -> dict[str, Any]:
    mask = cast("Any", found.mask)  # pycocotools' stub knows no counts as text
    if found.box is None:
        bbox = coco_mask.toBbox(mask).tolist()
    else:
        x1, y1, x2, y2 = found.box
        bbox = [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
    score = {} if found.score is None else {"score": round(found.score, 6)}
    return {
        "category_id": found.class_id,
        "bbox": bbox,
        "area": round(bbox[2] * bbox[3], 3) if mask is None else int(coco_mask.area(mask)),
        "segmentation": [] if mask is None else mask,
        "iscrowd": 0,
        **score,
    }
