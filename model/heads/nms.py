"""Non-maximum suppression: keep the best of the boxes that overlap too much.

Source: mmcv 1.7 (``batched_nms``), but boxes of different groups are never compared; mmcv moves the
groups apart by an offset to the coordinates, which rounds them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.heads.boxes import box_areas, pairwise_iou
from model.kernels.gpu.support import TRITON_INSTALLED, triton_unsupported_reason

# Triton's kernels bring PyTorch's compiler along: two seconds that a CPU need not wait.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.nms import nms_triton

KERNEL_BOXES = 2**15
"""More boxes than that are left to the plain path on a GPU too."""

BLOCK = 256
"""Boxes of a group that are decided at a time."""

MAXIMUM_PAIRS = 2**21
"""Pairs that are compared at a time (8 MiB a float32 intermediate); at least those of one block
with the rest of its group."""


def nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    iou_threshold: float,
    *,
    among: Tensor | None = None,
) -> Tensor:
    """Keep a box unless its IoU with a kept, higher ranked box of its group exceeds a threshold.

    Args:
        boxes: (N, 4).
        scores: (N,); of equal scores the earlier ranks higher.
        groups: the group of every box, (N,) int64, not negative.
        iou_threshold: 0 to 1.
        among: whether a box counts at all, (N,) bool; None: all do.

    Returns:
        Indices of the kept boxes, best first, (N_kept,) int64.
    """
    if _kernel_takes(boxes):
        return _by_kernel(boxes, scores, groups, iou_threshold, among)
    if among is not None:
        counted = among.nonzero().squeeze(1)
        return counted[nms(boxes[counted], scores[counted], groups[counted], iou_threshold)]
    ranking = scores.sort(descending=True, stable=True).indices
    # Contiguous groups, the largest first, so that groups of similar size share little padding.
    _, group, sizes = torch.unique(groups[ranking], return_inverse=True, return_counts=True)
    sizes, by_size = sizes.sort(descending=True, stable=True)
    row = by_size.argsort()[group]  # each ranked box's row in the table of groups below
    row, by_row = row.sort(stable=True)
    column = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row]

    kept = torch.zeros(len(row), dtype=torch.bool, device=row.device)
    size_list = sizes.tolist()
    first_row = first_box = 0
    while first_row < len(size_list):
        width = size_list[first_row]
        rows = max(1, MAXIMUM_PAIRS // (min(BLOCK, width) * width))
        last_box = first_box + sum(size_list[first_row : first_row + rows])
        part = slice(first_box, last_box)
        at = (row[part] - first_row, column[part])
        table = boxes.new_zeros(len(size_list[first_row : first_row + rows]), width, 4)
        table[at] = boxes[ranking[by_row[part]]]
        kept[by_row[part]] = _kept(table, iou_threshold)[at]
        first_row, first_box = first_row + rows, last_box
    return ranking[kept]


def _kernel_takes(boxes: Tensor) -> bool:
    fits = boxes.dtype == torch.float32 and len(boxes) <= KERNEL_BOXES
    return fits and triton_unsupported_reason(boxes) is None


def _by_kernel(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, among: Tensor | None
) -> Tensor:
    ranking = scores.sort(descending=True, stable=True).indices
    if among is not None:
        groups = torch.where(among, groups, -1)
    ranked = boxes[ranking]
    kept = nms_triton(ranked, box_areas(ranked), groups[ranking], iou_threshold)
    if among is not None:
        kept = kept & among[ranking]
    return ranking[kept]  # the only wait: the result is as long as boxes are kept


def _kept(table: Tensor, iou_threshold: float) -> Tensor:
    """Suppress within groups of ranked boxes, (G, N, 4) -> (G, N) bool; zero boxes are padding."""
    kept = torch.ones(table.shape[:2], dtype=torch.bool, device=table.device)
    for start in range(0, table.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        suppresses = pairwise_iou(table[:, block], table[:, start:]) > iou_threshold
        inside, after = suppresses.split(
            [kept[:, block].shape[1], suppresses.shape[2] - kept[:, block].shape[1]], dim=2
        )
        kept[:, block] = _fixed_point(inside.triu(diagonal=1), kept[:, block])
        kept[:, start + BLOCK :] &= ~_any_kept(after, kept[:, block])
    return kept


def _fixed_point(suppresses: Tensor, allowed: Tensor) -> Tensor:
    """Repeat "allowed, and suppressed by no kept box" until nothing changes.

    A box depends only on boxes before it, so after n rounds the first n are as in the greedy result
    and stay so: the fixed point exists, and is the greedy result.

    Args:
        suppresses: whether box n suppresses box m if kept, false unless n < m, (G, N, N).
        allowed: boxes that no kept box of an earlier block suppresses, (G, N).

    Returns:
        The kept boxes, (G, N) bool.
    """
    kept = allowed
    while True:
        refined = allowed & ~_any_kept(suppresses, kept)
        if torch.equal(refined, kept):
            return kept
        kept = refined


def _any_kept(suppresses: Tensor, kept: Tensor) -> Tensor:
    """Return whether any kept box suppresses: (G, N, M), (G, N) -> (G, M)."""
    return (suppresses & kept.unsqueeze(2)).any(dim=1)
