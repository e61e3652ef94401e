"""Modules whose parameters and statistics are all away from their identity values."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from support.fill import parameter

Part = TypeVar("Part", bound=nn.Module)


def filled(part: Part, dtype: torch.dtype = torch.float64) -> Part:
    """Fill parameters by name, so that a missing one shows; evaluation mode, no gradients."""
    state = part.state_dict()
    part.load_state_dict(
        {key: torch.from_numpy(parameter(key, tuple(t.shape))) for key, t in state.items()}
    )
    return part.to(dtype).eval().requires_grad_(requires_grad=False)


def random_map(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return normal values, the same ones for a shape every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
