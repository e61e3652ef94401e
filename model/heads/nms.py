"""Non-maximum suppression: keep the best of the boxes that overlap too much.

Source: mmcv 1.7 (``batched_nms``), but boxes of different groups are never compared; mmcv moves the
groups apart by an offset to the coordinates, which rounds them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.heads.boxes import pairwise_iou

BLOCK = 256
"""Boxes of a group that are decided at a time."""

MAXIMUM_PAIRS = 2**21
"""Pairs that are compared at a time (8 MiB a float32 intermediate); at least those of one block
with the rest of its group."""


def nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Keep a box unless its IoU with a kept, higher ranked box of its group exceeds a threshold.

    Args:
        boxes: (N, 4).
        scores: (N,); of equal scores the earlier ranks higher.
        groups: the group of every box, (N,) int64.
        iou_threshold: 0 to 1.

    Returns:
        Indices of the kept boxes, best first, (N_kept,) int64.
    """
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
