"""Selection of the implementation that runs an operation on a map: PyTorch's, or a Triton tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from model.kernels.gpu.autotune import Autotuner, Problem
from model.kernels.gpu.support import triton_unsupported_reason

Tile = Literal["few", "many"]
"""Small programs, which keep a device busy with one image, or large ones, which load less."""

Implementation = Literal["plain"] | Tile
"""PyTorch's operators, or a tile of the operation's Triton kernel."""

Choice = Implementation | Autotuner
"""An explicit implementation, or a table of the fastest; "plain" solves unmeasured problems."""


def map_problem(operation: str, features: Tensor) -> Problem:
    """Return the key of an operation on a map in an ``Autotuner``.

    The key distinguishes only one image from several: one compiled graph, with one implementation,
    serves all larger batches.

    Args:
        operation: its name.
        features: (B, C, H, W).
    """
    images = "one" if features.shape[0] == 1 else "many"
    return (operation, images, *features.shape[1:], features.dtype, features.device)


def selected(choice: Choice, operation: str, features: Tensor, others: Sequence[Tensor]) -> str:
    """Return the implementation to run.

    Args:
        choice: of the caller.
        operation: name of the operation.
        features: the map, (B, C, H, W).
        others: the kernel's other tensors.

    Raises:
        ValueError: if the requested tile does not run here.
    """
    if choice == "plain":
        return choice
    reason = triton_unsupported_reason(features, *others)
    if reason is None and not features.is_contiguous(memory_format=torch.channels_last):
        reason = "the features are not in the channels_last memory format"
    if isinstance(choice, Autotuner):
        if reason is not None:
            return "plain"
        return choice.fastest(map_problem(operation, features), default="plain")
    if reason is not None:
        raise ValueError(f"The Triton kernel of {operation} was requested, but {reason}.")
    return choice
