"""What data sets are made of: the images of a run's parts, with the objects found in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from model.images.masks import RunLengths, rle_of_classes
from service.commands.batch.folder import OutputFolder
from service.commands.batch.part_file import rows_in
from service.commands.batch.plan import Part

# It lifts Pillow's size limit: a label map is as large as its image.
from service.images import pillow  # noqa: F401

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE_COLUMNS = ("path", "error", "width", "height")
OBJECT_COLUMNS = {"detect": "detections", "segment": "label_map"}
"""The column with an image's objects, by task."""

Box = tuple[float, float, float, float]
"""x1 y1 x2 y2, pixels."""


@dataclass(frozen=True)
class FoundObject:
    """A detection, or all pixels of a class in a segmentation: a thing, or stuff in COCO's words.

    Attributes:
        class_id: from 0, the model's.
        mask: None of a detection without one.
        box: of a detection, as the network gave it; None of stuff.
        score: of a detection, 0 to 1; None of stuff.
    """

    class_id: int
    mask: RunLengths | None
    box: Box | None = None
    score: float | None = None

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The mask as 0 and 1, (H, W); None without one, or without any pixel."""
        if self.mask is None:
            return None
        # The stub knows no counts as text.
        mask: NDArray[np.uint8] = coco_mask.decode(cast("Any", self.mask))
        return mask if mask.any() else None


@dataclass(frozen=True)
class FoundImage:
    """An image that has a result.

    Attributes:
        number: its place in the listing of all shards, from 0.
        path: as its row has it.
        width: pixels.
        height: pixels.
        objects: in the order of the row; empty where they were not read.
    """

    number: int
    path: str
    width: int
    height: int
    objects: Sequence[FoundObject] = ()


class FoundImages:
    """The images of a run's parts that have a result, read one by one.

    Args:
        folder: that has the parts.
        parts: of a shard, all of them written.
        task: "detect" or "segment".
        advance: is told how many images are done.
    """

    def __init__(
        self,
        folder: OutputFolder,
        parts: Sequence[Part],
        task: str,
        advance: Callable[[int], None],
    ) -> None:
        self._folder, self._parts, self._advance = folder, parts, advance
        self._column = OBJECT_COLUMNS[task]

    def sizes(self) -> Iterator[FoundImage]:
        """Yield the images without their objects."""
        for number, row in self._rows(SIZE_COLUMNS):
            if row["error"] is None:
                yield FoundImage(number, row["path"], row["width"], row["height"])

    def __iter__(self) -> Iterator[FoundImage]:
        for number, row in self._rows((*SIZE_COLUMNS, self._column)):
            if row["error"] is None:
                objects = objects_of(row)
                yield FoundImage(number, row["path"], row["width"], row["height"], objects)
            self._advance(1)

    def _rows(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        for part in self._parts:
            yield from enumerate(rows_in(self._folder, part.name, columns), part.start)


def objects_of(row: dict[str, Any]) -> list[FoundObject]:
    """Return the objects of a row without an error."""
    if "detections" in row:
        return list(map(_detection, row["detections"]))
    with Image.open(BytesIO(row["label_map"])) as picture:
        label_map = np.asarray(picture)
    masks = rle_of_classes(label_map, np.unique(label_map).tolist())
    return [FoundObject(class_id, mask) for class_id, mask in masks.items()]


def _detection(found: dict[str, Any]) -> FoundObject:
    x1, y1, x2, y2 = found["box"]
    return FoundObject(found["class_id"], found["mask"], (x1, y1, x2, y2), found["score"])
