"""A few numbers as a tensor, without a copy from the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def device_vector(values: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the values, (N,), each written by the device itself.

    ``torch.tensor`` on a CUDA device copies from the host and waits for all work before it, and
    cannot be recorded in a CUDA graph.
    """
    return torch.stack([torch.full((), value, dtype=dtype, device=device) for value in values])
