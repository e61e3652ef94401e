"""Selection of the implementation that runs an operation on a map: PyTorch's, or a Triton tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from model.kernels.gpu.autotune import Autotuner, Problem
from model.kernels.gpu.support import triton_unsupported_reason

Tile = Literal["few", "many"]
"""Small programs, which keep a device busy with one image, or large ones, which load less."""

TILES: tuple[Tile, ...] = get_args(Tile)

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


def rows_problem(operation: str, rows: Tensor, partial: Tensor) -> Problem:
    """Return the key of an operation that scales rows in an ``Autotuner``; see ``map_problem``.

    Args:
        operation: its name.
        rows: an image's pixels, (B, N, C), or a weight's rows for all images, (1, N, C).
        partial: the partial sums that the scales are made of, (B, parts, C). Their number depends
            on what another measurement chose; the key knows whether they are the rows themselves.
    """
    kind = "own sums" if partial is rows else "weight" if rows.shape[0] == 1 else "map"
    images = "one" if partial.shape[0] == 1 else "many"
    return (operation, images, kind, *rows.shape[1:], rows.dtype, rows.device)


MAX_PARTIAL_BYTES = 128 * 1024
"""Most bytes of an image's partial sums that every program of a kernel adds up by itself."""


def few_parts(partial: Tensor) -> bool:
    """Return whether programs add up partial sums, (B, parts, C), instead of a launch before."""
    return partial.shape[1] * partial.shape[2] * partial.itemsize <= MAX_PARTIAL_BYTES


def selected(
    choice: str | Autotuner,
    problem: Problem,
    tensors: Sequence[Tensor],
    features: Tensor | None = None,
) -> str:
    """Return the implementation to run.

    Args:
        choice: of the caller.
        problem: its key; the first field is the operation's name.
        tensors: all of the kernel's.
        features: the one of them, (B, C, H, W), that it needs in channels_last.

    Raises:
        ValueError: if the requested tile does not run here.
    """
    if choice == "plain":
        return choice
    reason = triton_unsupported_reason(*tensors)
    is_pixel_by_pixel = features is None or features.is_contiguous(
        memory_format=torch.channels_last
    )
    if reason is None and not is_pixel_by_pixel:
        reason = "the features are not in the channels_last memory format"
    if isinstance(choice, Autotuner):
        if reason is not None:
            return "plain"
        return choice.fastest(problem, default="plain")
    if reason is not None:
        raise ValueError(f"The Triton kernel of {problem[0]} was requested, but {reason}.")
    return choice
