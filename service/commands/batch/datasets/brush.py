"""Label Studio's run lengths of a mask painted with its brush.

Source: https://github.com/HumanSignal/label-studio-sdk, its converter of brushes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = 4
"""Red, green, blue and opacity of a pixel, all 0 or all 255."""

VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)
"""Sizes that the length of a run may take; two bits say which one it is."""


def brush_runs(mask: NDArray[np.uint8]) -> list[int]:
    """Encode a mask as the bytes of Label Studio's stream of bits, without loss.

    Args:
        mask: 0 and 1, (H, W).
    """
    pixels = mask.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    lengths = CHANNELS * np.diff(changes, prepend=0, append=pixels.size)
    bits = [f"{CHANNELS * pixels.size:032b}{VALUE_BITS - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in LENGTH_BITS]
    value = 255 * int(pixels[0])
    for length in lengths.tolist():
        bits.append(_run(length, value))
        value = 255 - value
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return list(int(stream, 2).to_bytes(len(stream) // 8, "big"))


@lru_cache(maxsize=4096)
def _run(length: int, value: int) -> str:
    """Return the bits of a run, cut into pieces that the longest size can state."""
    pieces = ""
    while length > 0:
        piece = min(length, 1 << LENGTH_BITS[-1])
        which = next(place for place, size in enumerate(LENGTH_BITS) if piece <= 1 << size)
        pieces += f"1{which:02b}{piece - 1:0{LENGTH_BITS[which]}b}{value:0{VALUE_BITS}b}"
        length -= piece
    return pieces
