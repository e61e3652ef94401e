"""Where a Triton kernel's result goes."""

from __future__ import annotations

import torch
from torch import Tensor


def empty_result(features: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return what ``torch.empty_like`` does, by its strides.

    torch.compile does not heed the memory format of ``empty_like``: it would take contiguous memory
    and launch a copy of it, in the right order, before every kernel.
    """
    strides = torch.empty_like(features, device="meta", memory_format=memory_format).stride()
    return features.new_empty_strided(features.shape, strides)
