"""Bilinear resizing as a matrix product along one axis."""

from __future__ import annotations

import torch
from torch import Tensor


def resized(rows: Tensor, size: int) -> Tensor:
    """Resize rows bilinearly without aligned corners, (N, ...) -> (size, ...).

    Equal to ``torch.nn.functional.interpolate`` along one axis.
    """
    start = len(rows)
    steps = torch.arange(size, dtype=torch.float64, device=rows.device)
    position = ((steps + 0.5) * (start / size) - 0.5).clamp(min=0)
    low = position.long().clamp(max=start - 1)
    high = (low + 1).clamp(max=start - 1)
    share = (position - low).to(rows.dtype).view(-1, *[1] * (rows.ndim - 1))
    return torch.lerp(rows[low], rows[high], share)


def resizing(
    start: int, size: int, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """Return the matrix that resizes ``start`` rows to ``size``, (size, start)."""
    return resized(torch.eye(start, dtype=dtype, device=device), size)
