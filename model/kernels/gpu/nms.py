# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""Non-maximum suppression of ranked boxes as two GPU kernels, without a wait for the host.

The first compares all pairs and writes which boxes each box would suppress, a bit for each: 2.8 MB
for the 4,741 candidates of a detector's proposals. The second is one program. It decides 32 boxes
at a time, one after the other in a register, and then marks what those it kept suppress. Its 149
steps depend on each other.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor

BITS = 32
"""Boxes of a word, and of a step."""

PAIR_WORDS = 4
"""Words that a program of the first kernel writes for each of its boxes."""

PAIR_WARPS = 4
KEEP_WARPS = 8

WORDS = (256, 1024)
"""Words that the second kernel's program may hold: the first that suffices for all boxes."""

MOST_BOXES = WORDS[-1] * BITS
"""Boxes that can be decided together."""


@triton.jit(do_not_specialize=("count", "words"))  # type: ignore[untyped-decorator,unused-ignore]
def _pairs_kernel(  # type: ignore[no-untyped-def]
    boxes,
    areas,
    groups,
    suppressed,
    count,
    words,
    iou_threshold,
    BITS: tl.constexpr,
    PAIR_WORDS: tl.constexpr,
):
    """Compare a word of boxes with boxes ranked lower. Axes: words of these; words of those."""
    box = tl.program_id(0) * BITS + tl.arange(0, BITS)[:, None]
    first_word = tl.program_id(1) * PAIR_WORDS
    # Words before the boxes' own are never read.
    if first_word + PAIR_WORDS > tl.program_id(0):
        other = first_word * BITS + tl.arange(0, PAIR_WORDS * BITS)[None, :]
        is_box, is_other = box < count, other < count
        left = tl.load(boxes + box * 4, mask=is_box, other=0.0)
        top = tl.load(boxes + box * 4 + 1, mask=is_box, other=0.0)
        right = tl.load(boxes + box * 4 + 2, mask=is_box, other=0.0)
        bottom = tl.load(boxes + box * 4 + 3, mask=is_box, other=0.0)
        width = tl.minimum(right, tl.load(boxes + other * 4 + 2, mask=is_other, other=0.0))
        width -= tl.maximum(left, tl.load(boxes + other * 4, mask=is_other, other=0.0))
        height = tl.minimum(bottom, tl.load(boxes + other * 4 + 3, mask=is_other, other=0.0))
        height -= tl.maximum(top, tl.load(boxes + other * 4 + 1, mask=is_other, other=0.0))
        both = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
        area = tl.load(areas + box, mask=is_box, other=0.0)
        area += tl.load(areas + other, mask=is_other, other=0.0)
        # Rounded as IEEE has it, like the reference's; NaN suppresses nothing.
        union = tl.where(both > 0, area - both, 1.0)
        overlaps = tl.div_rn(both, union) > iou_threshold
        group = tl.load(groups + box, mask=is_box, other=-1)
        overlaps &= group == tl.load(groups + other, mask=is_other, other=-2)
        overlaps &= other > box
        bits = overlaps.to(tl.int32) << (other % BITS)
        bits = tl.sum(tl.reshape(bits, [BITS, PAIR_WORDS, BITS]), axis=2)
        word = first_word + tl.arange(0, PAIR_WORDS)[None, :]
        tl.store(suppressed + box * words + word, bits, mask=is_box & (word < words))


@triton.jit(do_not_specialize=("count", "words"))  # type: ignore[untyped-decorator,unused-ignore]
def _keep_kernel(  # type: ignore[no-untyped-def]
    suppressed, kept, count, words, BITS: tl.constexpr, WORDS: tl.constexpr
):
    """Decide all boxes, best first."""
    word = tl.arange(0, WORDS)
    bit = tl.arange(0, BITS)
    gone = tl.zeros([WORDS], tl.int32)
    for step in tl.range(0, words):
        decided = tl.sum(tl.where(word == step, gone, 0), axis=0)
        first = step * BITS
        for place in tl.static_range(BITS):
            box = first + place
            own = tl.load(suppressed + box * words + step, mask=box < count, other=0)
            decided |= tl.where((decided >> place) & 1 == 0, own, 0)
        is_kept = (decided >> bit) & 1 == 0
        box = first + bit
        tl.store(kept + box, is_kept.to(tl.uint8), mask=box < count)
        rows = suppressed + box[:, None] * words + word[None, :]
        is_later = (word[None, :] > step) & (word[None, :] < words)
        used = (is_kept & (box < count))[:, None] & is_later
        gone |= tl.reduce_or(tl.load(rows, mask=used, other=0), axis=0)


@torch.library.custom_op("overlock::nms", mutates_args=())
def nms_triton(boxes: Tensor, areas: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Decide which of ranked boxes stay.

    Args:
        boxes: best first, (N, 4) float32; at most ``MOST_BOXES``.
        areas: of the boxes, (N,) float32.
        groups: the group of every box, (N,) int64, not negative.
        iou_threshold: 0 to 1.

    Returns:
        Whether each is kept, (N,) bool.

    Raises:
        ValueError: if there are too many boxes.
    """
    count = boxes.shape[0]
    if count > MOST_BOXES:
        raise ValueError(f"{MOST_BOXES} boxes can be decided together, not {count}.")
    words = triton.cdiv(count, BITS)
    suppressed = boxes.new_empty((count, words), dtype=torch.int32)
    kept = boxes.new_empty(count, dtype=torch.uint8)
    # Without fused multiply-adds an IoU rounds as PyTorch's does.
    _pairs_kernel[(words, triton.cdiv(words, PAIR_WORDS))](
        boxes.contiguous(),
        areas.contiguous(),
        groups.contiguous(),
        suppressed,
        count,
        words,
        iou_threshold,
        BITS=BITS,
        PAIR_WORDS=PAIR_WORDS,
        num_warps=PAIR_WARPS,
        enable_fp_fusion=False,
    )
    _keep_kernel[(1,)](
        suppressed,
        kept,
        count,
        words,
        BITS=BITS,
        WORDS=next(held for held in WORDS if words <= held),
        num_warps=KEEP_WARPS,
    )
    return kept.view(torch.bool)


@nms_triton.register_fake
def _(boxes: Tensor, areas: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(boxes.shape[0], dtype=torch.bool)
