# ruff: noqa: N803 - what is constant in a compilation is upper case, as Triton has it
"""What squeeze-excite and the response norm share: a factor for each channel of an image, and rows.

Rows are the pixels of a map, or those of a weight that every image scales for itself. A program
scales some rows of one image. It computes the image's factors itself, from sums that lie in the
second-level cache: a launch of their own would take longer. Counts: docs/kernels.md.
"""

from __future__ import annotations

import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]

TILES = {"few": 16, "many": 64}
"""Candidates to measure, rows of a program: few of them keep a device busy with one image, with
many an image's factors are computed less often."""

WARPS = 8
"""Warps of a program."""

NUMBERS = 4096
"""Numbers that a program holds at a time, at least one row; each thread holds 16."""


def constants(tile_name: str, channels: int) -> dict[str, int]:
    """Return the constants of a tile for a number of channels."""
    padded_channels = int(triton.next_power_of_2(channels))
    held = max(1, NUMBERS // padded_channels)
    rows = TILES[tile_name]
    return {"ROWS": rows, "HELD": min(held, rows), "PARTS": held, "CHANNELS": padded_channels}


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def channel_totals(  # type: ignore[no-untyped-def]
    partial, parts, channels, PARTS: tl.constexpr, CHANNELS: tl.constexpr, SQUARED: tl.constexpr
):
    """Add up an image's partial sums, (parts, C), or the squares of its pixels: (CHANNELS,)."""
    part, channel = tl.arange(0, PARTS), tl.arange(0, CHANNELS)
    partial += part[:, None] * channels + channel[None, :]
    totals = tl.zeros([PARTS, CHANNELS], tl.float32)
    for first in tl.range(0, parts, PARTS):
        mask = (first + part < parts)[:, None] & (channel < channels)[None, :]
        numbers = tl.load(partial + first * channels, mask=mask, other=0.0).to(tl.float32)
        totals += numbers * numbers if SQUARED else numbers
    return tl.sum(totals, axis=0)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def store_scaled(  # type: ignore[no-untyped-def]
    rows,
    gate,
    result,
    scale,
    shift,
    first_row,
    count,
    channels,
    ROWS: tl.constexpr,
    HELD: tl.constexpr,
    CHANNELS: tl.constexpr,
    GATED: tl.constexpr,
):
    """Store ``ROWS`` rows of an image, each times a scale and SiLU of a gate, plus a shift.

    Scale and shift are (CHANNELS,).
    """
    row, channel = first_row + tl.arange(0, HELD), tl.arange(0, CHANNELS)
    for _ in tl.range(0, ROWS, HELD):
        mask = (row < count)[:, None] & (channel < channels)[None, :]
        place = row[:, None] * channels + channel[None, :]
        numbers = tl.load(rows + place, mask=mask, other=0.0).to(tl.float32) * scale[None, :]
        if GATED:
            gates = tl.load(gate + place, mask=mask, other=0.0).to(tl.float32)
            numbers *= gates / (1 + tl.exp(-gates))
        numbers += shift[None, :]
        tl.store(result + place, numbers.to(result.dtype.element_ty), mask=mask)
        row += HELD
