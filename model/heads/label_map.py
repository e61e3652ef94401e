"""Resizing of a segmenter's logits to the image's size, and argmax, in bounded memory.

The reference resizes the logits to the network's input and from there to the image, both times
bilinearly, and takes the best class: ``classes * height * width`` values, ten gigabytes for a
photograph of 16 megapixels. Both steps are linear and separable, so together they are one pair of
small matrices, applied tile by tile. In a tile most classes cannot win and are left out: an
interpolated value lies between the smallest and the largest logit of the tile.

On a GPU one Triton kernel does all of it without a tensor of values
(``model.kernels.gpu.label_map``).

Source: mmsegmentation 0.30 (``EncoderDecoder.whole_inference``).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from model.config import MAX_LABEL_MAP_CLASSES
from model.heads.resizing import resized, resizing
from model.kernels.gpu.support import TRITON_INSTALLED, triton_unsupported_reason

# Triton's operators bring PyTorch's compiler along: two seconds that a CPU need not wait.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.label_map import label_map_triton

TILE_CELLS = 8
"""Side of a tile, in pixels of the logits."""

TILE_BYTES = 64 * 2**20
"""Limit for one tile's logits at the image's size."""


def label_map(
    logits: Tensor, network_size: tuple[int, int], original_size: tuple[int, int]
) -> Tensor:
    """Resize logits to the network's input, then to the image, and take the best class.

    Args:
        logits: of one image, (classes, h, w), finite.
        network_size: height and width of the network's input.
        original_size: height and width of the image.

    Returns:
        Class ids, uint8 (H, W) in the image's size, on the logits' device.

    Raises:
        ValueError: if there are more than 256 classes.
    """
    if len(logits) > MAX_LABEL_MAP_CLASSES:
        raise ValueError(f"A label map holds {MAX_LABEL_MAP_CLASSES} classes, not {len(logits)}.")
    if _kernel_takes(logits, network_size):
        labels = label_map_triton(logits, *network_size, *original_size)
        return cast("Tensor", labels)
    logits = logits.float()
    rows = _resizing_twice(logits.shape[1], network_size[0], original_size[0])
    columns = _resizing_twice(logits.shape[2], network_size[1], original_size[1])
    row_tiles, column_tiles = list(_tiles(rows)), list(_tiles(columns))
    rows, columns = rows.to(logits.device), columns.to(logits.device)
    result = torch.empty(original_size, dtype=torch.uint8, device=logits.device)
    for row_out, row_in in row_tiles:
        for column_out, column_in in column_tiles:
            tile = logits[:, row_in, column_in]
            result[row_out, column_out] = _best_classes(
                tile, rows[row_out, row_in], columns[column_out, column_in]
            )
    return result


def relative_logits(logits: Tensor) -> Tensor:
    """Return logits below their cell's largest, float16 (classes, h, w), to be blended elsewhere.

    A number that is added to all classes of a cell changes no label. Without it the classes that
    can win are near zero, where float16 is finest, and none overflows. The result is contiguous,
    class by class.
    """
    below = logits.float() - logits.float().amax(dim=0)
    return below.clamp(min=torch.finfo(torch.float16).min).half().contiguous()


def _kernel_takes(logits: Tensor, network_size: tuple[int, int]) -> bool:
    """Whether the GPU's kernel runs: it enlarges logits, as the networks need it, or keeps them."""
    grows = all(map(operator.le, logits.shape[1:], network_size))
    return grows and triton_unsupported_reason(logits) is None


def _best_classes(tile: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate a tile (classes, h, w) to (H, W) and return the best class of every pixel."""
    smallest, largest = torch.aminmax(tile.flatten(1), dim=1)
    candidates = (largest >= smallest.max()).nonzero().flatten()
    if len(candidates) == 1:
        return candidates.to(torch.uint8).expand(len(rows), len(columns))
    wide = tile[candidates] @ columns.T  # (K, h, w) -> (K, h, W)
    best = [
        torch.matmul(part, wide).max(dim=0).indices  # (R, h) @ (K, h, W) -> (K, R, W)
        for part in rows.split(_rows_at_once(len(candidates), len(columns)))
    ]
    return candidates[torch.cat(best)].to(torch.uint8)


def _rows_at_once(classes: int, width: int) -> int:
    return max(1, TILE_BYTES // (4 * classes * width))


def _tiles(matrix: Tensor) -> Iterator[tuple[slice, slice]]:
    """Split a resizing into tiles: slices of the result, and of the source pixels they need."""
    outputs, inputs = matrix.shape
    step = max(1, TILE_CELLS * outputs // inputs)
    for start in range(0, outputs, step):
        used = matrix[start : start + step].any(dim=0).nonzero()
        yield (
            slice(start, min(start + step, outputs)),
            slice(int(used[0]), int(used[-1]) + 1),
        )


def _resizing_twice(start: int, middle: int, end: int) -> Tensor:
    """Return the matrix of two bilinear resizings in a row, (end, start) float32."""
    # Not a product of two matrices: for a strip of 32,768 pixels that takes seconds.
    return resized(resizing(start, middle, torch.float32), end)
