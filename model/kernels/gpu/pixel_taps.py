"""What kernels of a 3x3 depthwise convolution share: a column of its taps."""

from __future__ import annotations

import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def load_taps(taps, column, channels, is_channel):  # type: ignore[no-untyped-def]
    """Load a column of ``pixel_taps``, three rows of taps, in float32.

    An input row enters the sums of the output row below it by the first of them, of its own by the
    second, and of the one above it by the third.

    Args:
        taps: points at the first tap of each channel.
        column: of the kernel, 0 to 2.
        channels: number of channels of the map.
        is_channel: which of the taps' channels exist.
    """
    tap = taps + column * channels
    first = tl.load(tap, mask=is_channel, other=0.0).to(tl.float32)
    second = tl.load(tap + 3 * channels, mask=is_channel, other=0.0).to(tl.float32)
    third = tl.load(tap + 6 * channels, mask=is_channel, other=0.0).to(tl.float32)
    return first, second, third
