# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""RoIAlign as one GPU kernel: any number of boxes, each from the level that suits its size.

A program owns one row of bins of one region of interest (RoI) and a block of channels. It chooses
the level from the box, and from the box's size there how many samples a bin has, so that nothing
of a box has to be known on the host. The samples of a row of bins are added up together: four
loads of (bins, channels) for each, 16 bytes a thread where maps are channels_last.

Of 1,000 RoIs of 256 channels, 7x7 bins and 6 samples in each (two to three map pixels a side), that
is 0.6 GB through the first-level cache in bfloat16, at most the pyramid's bytes from memory
(46 MB at 800x1344), and 25 MB of result. ``model.heads.roi_align`` has one row and column
of weights per RoI instead, and reads each pixel once; it has to know how large the crops are.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import Tensor
from torch.library import triton_op, wrap_triton

LEVELS = 4
"""Levels of a pyramid that RoIs are taken from, at most."""

CHANNEL_BLOCK = 256
"""Channels of a program, at most."""

WARPS = 4

MOST_SAMPLES = 512
"""Samples of a bin along an axis, at most: one bin of an input of 2,048 pixels at stride 4. Keeps a
box of infinities from running for ever."""


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _of_level(level, finest, second, third, coarsest):  # type: ignore[no-untyped-def]
    coarser = tl.where(level == 1, second, tl.where(level == 2, third, coarsest))
    return tl.where(level == 0, finest, coarser)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _bins(start, end, BINS: tl.constexpr, MOST_SAMPLES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the length of a bin, in pixels of the map, and its samples along the axis."""
    # Rounded as IEEE has it, like the reference: a hair more than 2 pixels have three samples.
    length = tl.div_rn(end - start, tl.full([], BINS, tl.float32))
    samples = tl.minimum(tl.ceil(length), MOST_SAMPLES)
    return length, tl.where(length > 0, samples, 0.0).to(tl.int32)  # NaN has none


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _sample(start, bin_index, length, sample, samples, map_side):  # type: ignore[no-untyped-def]
    """Return the two pixels next to a sample, and their weights.

    A sample that lies outside the pixels' centres by more than one pixel weighs nothing, a nearer
    one is moved to them.
    """
    offset = tl.div_rn((sample + 0.5) * length, tl.full([], 0, tl.float32) + samples)
    position = start + bin_index * length + offset
    counted = ((position >= -1) & (position <= map_side)).to(tl.float32)
    position = tl.minimum(tl.maximum(position, 0.0), map_side - 1.0)
    low = tl.floor(position)
    share = position - low
    low_pixel = low.to(tl.int32)
    high_pixel = tl.minimum(low_pixel + 1, map_side - 1)
    return low_pixel, high_pixel, counted * (1 - share), counted * share


_SIZES = tuple(
    f"{side}_{level}"
    for side in ("height", "width")
    for level in ("finest", "second", "third", "coarsest")
)


# Maps have any size: one compilation serves all.
@triton.jit(do_not_specialize=_SIZES)  # type: ignore[untyped-decorator,unused-ignore]
def _roi_align_kernel(  # type: ignore[no-untyped-def]
    finest,
    second,
    third,
    coarsest,
    height_finest,
    height_second,
    height_third,
    height_coarsest,
    width_finest,
    width_second,
    width_third,
    width_coarsest,
    boxes,
    pooled,
    LEVELS: tl.constexpr,
    STRIDE: tl.constexpr,
    SIDE: tl.constexpr,
    BINS: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNEL_BLOCK: tl.constexpr,
    PADDED_BINS: tl.constexpr,
    MOST_SAMPLES: tl.constexpr,
):
    """Fill a row of bins. Axes: RoIs and their rows of bins; blocks of channels."""
    roi = tl.program_id(0) // BINS
    bin_row = tl.program_id(0) % BINS
    left, top = tl.load(boxes + roi * 4), tl.load(boxes + roi * 4 + 1)
    right, bottom = tl.load(boxes + roi * 4 + 2), tl.load(boxes + roi * 4 + 3)

    side = tl.sqrt_rn((right - left) * (bottom - top))
    size = tl.div_rn(side, tl.full([], SIDE, tl.float32)) + 1e-6
    # The first float32 numbers whose logarithms round to 1, 2 and 3.
    level = (size >= 2).to(tl.int32) + (size >= 4).to(tl.int32)
    level += (size >= 7.999999523162842).to(tl.int32)
    level = tl.minimum(level, LEVELS - 1)

    scale = _of_level(level, 1.0 / STRIDE, 0.5 / STRIDE, 0.25 / STRIDE, 0.125 / STRIDE)
    height = _of_level(level, height_finest, height_second, height_third, height_coarsest)
    width = _of_level(level, width_finest, width_second, width_third, width_coarsest)
    pixels = _of_level(level, finest, second, third, coarsest)
    # The pixels' centres are at whole coordinates, hence the half.
    left, top = left * scale - 0.5, top * scale - 0.5
    right, bottom = right * scale - 0.5, bottom * scale - 0.5
    bin_height, row_samples = _bins(top, bottom, BINS, MOST_SAMPLES)
    bin_width, column_samples = _bins(left, right, BINS, MOST_SAMPLES)

    bin_column = tl.arange(0, PADDED_BINS)[:, None]
    channel = tl.program_id(1) * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)[None, :]
    mask = (bin_column < BINS) & (channel < CHANNELS)
    pixels += channel
    total = tl.zeros([PADDED_BINS, CHANNEL_BLOCK], tl.float32)
    for row_sample in tl.range(0, row_samples):
        upper, lower, upper_weight, lower_weight = _sample(
            top, bin_row, bin_height, row_sample, row_samples, height
        )
        upper_row = pixels + upper * width * CHANNELS
        lower_row = pixels + lower * width * CHANNELS
        for column_sample in tl.range(0, column_samples):
            near, far, near_weight, far_weight = _sample(
                left, bin_column, bin_width, column_sample, column_samples, width
            )
            near, far = near * CHANNELS, far * CHANNELS
            corner = tl.load(upper_row + near, mask=mask, other=0.0).to(tl.float32)
            total += (upper_weight * near_weight) * corner
            corner = tl.load(upper_row + far, mask=mask, other=0.0).to(tl.float32)
            total += (upper_weight * far_weight) * corner
            corner = tl.load(lower_row + near, mask=mask, other=0.0).to(tl.float32)
            total += (lower_weight * near_weight) * corner
            corner = tl.load(lower_row + far, mask=mask, other=0.0).to(tl.float32)
            total += (lower_weight * far_weight) * corner

    count = tl.maximum(row_samples * column_samples, 1).to(tl.float32)
    pooled += tl.program_id(0).to(tl.int64) * (BINS * CHANNELS) + bin_column * CHANNELS + channel
    tl.store(pooled, (total / count).to(pooled.dtype.element_ty), mask=mask)


@triton_op("overlock::roi_align", mutates_args=())
def roi_align_triton(
    levels: Sequence[Tensor], boxes: Tensor, output_side: int, stride: int, finest_side: int
) -> Tensor:
    """Resample each box's features; result as ``model.heads.roi_align`` has it.

    Args:
        levels: one image's maps, (C, H_i, W_i) of one dtype, each half as large as the one before;
            not copied if a pixel's channels lie side by side.
        boxes: (N, 4) in pixels of the network's input, clipped to it.
        output_side: rows, and columns, of the result.
        stride: input pixels for one of the finest level, a power of two.
        finest_side: from each doubling of this side (root of the area) on, a box is taken from the
            next level.

    Returns:
        (N, C, output_side, output_side) in the maps' dtype, channels last in memory.

    Raises:
        ValueError: if the levels are too many, or do not belong together.
    """
    channels = levels[0].shape[0]
    if not 1 <= len(levels) <= LEVELS or any(
        level.shape[0] != channels or level.dtype != levels[0].dtype for level in levels
    ):
        shapes = [tuple(level.shape) for level in levels]
        raise ValueError(f"These are no 1 to {LEVELS} levels of one pyramid: {shapes}.")
    # (C, H, W) -> (H, W, C)
    maps = [level.permute(1, 2, 0).contiguous() for level in levels]
    maps += maps[-1:] * (LEVELS - len(maps))
    count = boxes.shape[0]
    pooled = maps[0].new_empty(count, output_side, output_side, channels)
    block = min(CHANNEL_BLOCK, triton.next_power_of_2(channels))
    wrap_triton(_roi_align_kernel)[(count * output_side, triton.cdiv(channels, block))](
        *maps,
        *(level.shape[0] for level in maps),
        *(level.shape[1] for level in maps),
        boxes.float().contiguous(),
        pooled,
        LEVELS=len(levels),
        STRIDE=stride,
        SIDE=finest_side,
        BINS=output_side,
        CHANNELS=channels,
        CHANNEL_BLOCK=block,
        PADDED_BINS=triton.next_power_of_2(output_side),
        MOST_SAMPLES=MOST_SAMPLES,
        num_warps=WARPS,
    )
    return pooled.permute(0, 3, 1, 2)  # (N, h, w, C) -> (N, C, h, w)
