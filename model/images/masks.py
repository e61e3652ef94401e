"""Full-size masks, without torch: pasting of the network's small masks, and COCO's RLE.

Nothing here allocates an image for each instance or class: a pasted mask covers its box alone, and
run lengths are counted in strips.

Source: mmdetection 2.28, ``_do_paste_mask``; pycocotools, ``rleEncode``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASK_THRESHOLD = 0.5
"""A pixel belongs to an instance from this probability on."""

STRIP_PIXELS = 1 << 17
"""Pixels processed at a time: their float32 intermediates stay in the cache."""


@dataclass(frozen=True)
class PastedMask:
    """One instance's pixels, cut to a region of the image.

    Attributes:
        top: the region's first row in the image.
        left: the region's first column in the image.
        pixels: bool (h, w), the region; no pixel outside of it is set.
    """

    top: int
    left: int
    pixels: NDArray[np.bool_]


@dataclass(frozen=True)
class BoxedMask:
    """One instance's mask as the network gives it, or a part of it.

    Attributes:
        mask: probabilities, (28, 28) or another size.
        box: that it fills, x1 y1 x2 y2, pixels of the image, (4,).
    """

    mask: NDArray[np.float32]
    box: NDArray[np.floating]


class RunLengths(TypedDict):
    """A mask in COCO's compressed run-length encoding.

    ``size`` is [height, width] of the image; ``counts`` are the lengths of the runs of 0 and 1 in
    turn, down the columns.
    """

    size: list[int]
    counts: str


def paste_mask(
    mask: NDArray[np.float32], box: NDArray[np.floating], height: int, width: int
) -> PastedMask:
    """Stretch an instance's mask over its box: bilinear at pixel centres, zero outside.

    Args:
        mask: probabilities, (28, 28) or another size.
        box: x1 y1 x2 y2, pixels of the image, (4,).
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        The pixels with a probability of 0.5 or more, in a region of the box clipped to the image.
        For a box without area, or outside the image, the region is empty.
    """
    x1, y1, x2, y2 = (float(edge) for edge in box)
    if not (x1 < x2 and y1 < y2):
        return PastedMask(0, 0, np.zeros((0, 0), np.bool_))
    # A pixel centre outside the box is half a cell or more from the outermost cells' centres, so
    # its probability is below 0.5 and the region can end with the box.
    left, column, column_share = _cells_at_pixels(x1, x2, mask.shape[1], width)
    top, row, row_share = _cells_at_pixels(y1, y2, mask.shape[0], height)
    padded = np.pad(mask, 1)
    # (28 + 2, w): interpolated along the columns, and from each row to the next
    across = padded[:, column] + column_share * (padded[:, column + 1] - padded[:, column])
    steps = np.diff(across, axis=0)
    pixels = np.empty((len(row), len(column)), np.bool_)
    for strip in _strips(*pixels.shape):
        values = steps[row[strip]]
        values *= row_share[strip, None]
        values += across[row[strip]]
        np.greater_equal(values, MASK_THRESHOLD, out=pixels[strip])
    return PastedMask(top, left, pixels)


def rle_of_region(pasted: PastedMask, height: int, width: int) -> RunLengths:
    """Encode a pasted mask as a mask of the whole image of ``height`` by ``width`` pixels."""
    pixels, first = pasted.pixels, pasted.left * height + pasted.top
    row_before = np.zeros(pixels.shape[1], np.bool_)
    boundaries = [np.zeros(0, np.int64)]
    for strip in _strips(*pixels.shape):
        rows = pixels[strip]
        changes = np.empty(rows.shape, np.bool_)
        np.not_equal(rows[0], row_before, out=changes[0])
        np.not_equal(rows[1:], rows[:-1], out=changes[1:])
        row, column = np.divmod(np.flatnonzero(changes), len(row_before))
        boundaries.append(first + column * height + strip.start + row)
        row_before = rows[-1]
    boundaries.append(first + np.flatnonzero(row_before) * height + len(pixels))
    # Finding boundaries along the rows and sorting them is faster than going down the columns.
    return _encoded(np.sort(np.concatenate(boundaries)), height, width)


def rle_of_parts(parts: Sequence[BoxedMask], height: int, width: int) -> RunLengths:
    """Encode the union of masks, at least one, as a mask of the whole image."""
    encoded = [
        rle_of_region(paste_mask(part.mask, part.box, height, width), height, width)
        for part in parts
    ]
    if len(encoded) == 1:
        return encoded[0]
    # The stub knows no counts as text.
    union: Any = coco_mask.merge(cast("list[Any]", encoded))
    return RunLengths(size=[height, width], counts=union["counts"].decode("ascii"))


def rle_of_classes(
    label_map: NDArray[np.uint8], class_ids: Collection[int]
) -> dict[int, RunLengths]:
    """Encode the mask of each class, all in one pass over the label map.

    Args:
        label_map: class id of each pixel, (H, W).
        class_ids: the classes to encode; one that does not occur gets an empty mask.

    Returns:
        The masks by class id.
    """
    height, width = label_map.shape
    starts, labels = _runs(label_map)
    # A class's runs lie apart: each begins and ends where another class does.
    ends = np.append(starts[1:], height * width)
    masks = {}
    for class_id in class_ids:
        runs = np.flatnonzero(labels == class_id)
        boundaries = np.stack((starts[runs], ends[runs]), axis=1).ravel()
        masks[class_id] = _encoded(boundaries, height, width)
    return masks


def _cells_at_pixels(
    low: float, high: float, cells: int, length: int
) -> tuple[int, NDArray[np.intp], NDArray[np.float32]]:
    """Locate the pixels of one side of a box on one axis of its mask.

    Args:
        low: where the box begins, pixels.
        high: where it ends.
        cells: the mask's length.
        length: the image's.

    Returns:
        The first pixel of the box within the image, and for each of its pixels the last cell whose
        centre is not after the pixel's, and the share of the way from there to the next one, 0 to
        1. Cell 0 is padding before the mask's own cells, and another one follows them.
    """
    first = int(np.clip(np.floor(low), 0, length))
    last = int(np.clip(np.ceil(high), first, length))
    centres = np.arange(first, last, dtype=np.float64) + 0.5
    position = np.clip((centres - low) * (cells / (high - low)) + 0.5, 0, cells + 1)
    before = np.minimum(position.astype(np.intp), cells)
    return first, before, (position - before).astype(np.float32)


def _runs(label_map: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the start and the label of each run of equal labels down the columns."""
    height, width = label_map.shape
    starts, run_labels = [np.zeros(0, np.int64)], [np.zeros(0, np.uint8)]
    label_before: int | None = None
    for strip in _strips(width, height):
        # (H, w) -> (w, H), in memory too.
        labels = np.ascontiguousarray(label_map[:, strip].T).ravel()
        begins = np.empty(labels.shape, np.bool_)
        begins[0] = label_before is None or labels[0] != label_before
        np.not_equal(labels[1:], labels[:-1], out=begins[1:])
        places = np.flatnonzero(begins)
        starts.append(places + strip.start * height)
        run_labels.append(labels[places])
        label_before = int(labels[-1])
    return np.concatenate(starts), np.concatenate(run_labels)


def _encoded(boundaries: NDArray[np.int64], height: int, width: int) -> RunLengths:
    """Encode a mask from the alternating starts and ends of its runs, ascending."""
    # A run that continues in the next column ends and starts at one index: drop both.
    touching = np.flatnonzero(boundaries[1:] == boundaries[:-1])
    boundaries = np.delete(boundaries, np.concatenate((touching, touching + 1)))
    counts = np.diff(boundaries, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    runs = {"size": [height, width], "counts": counts}
    # The stub does not know runs that are not compressed yet.
    encoded = coco_mask.frPyObjects(runs, height, width)  # type: ignore[call-overload]
    return RunLengths(size=[height, width], counts=encoded["counts"].decode("ascii"))


def _strips(length: int, breadth: int) -> Iterator[slice]:
    """Cut an axis of ``length`` so that a strip across ``breadth`` has about STRIP_PIXELS."""
    step = max(1, STRIP_PIXELS // max(1, breadth))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
