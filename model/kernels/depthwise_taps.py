"""How the Triton depthwise kernel wants its weight: tap by tap, ready for vector loads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

CHANNEL_MULTIPLE = 32
"""Channels are filled up with zeros to a multiple of this, a block of the Triton kernel."""


def tap_major(weight: Tensor) -> Tensor:
    """Lay a depthwise weight out for the convolution; once, when a network is prepared.

    Args:
        weight: as a convolution keeps it, (C, 1, K, K).

    Returns:
        (K + 2, K, C') float32: neighbouring channels side by side, a row of zeros above the
        kernel and one below it, C' the channels filled up to a multiple of ``CHANNEL_MULTIPLE``.
    """
    taps = weight[:, 0].permute(1, 2, 0).float()  # (C, K, K) -> (K, K, C)
    missing = -taps.shape[2] % CHANNEL_MULTIPLE
    return F.pad(taps, (0, missing, 0, 0, 1, 1)).contiguous()
