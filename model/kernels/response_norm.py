"""The response norm of a map's pixels, or of a weight that multiplies them, from sums of squares.

"plain" is PyTorch's operators; the tiles are those of a Triton kernel, one launch. The faster one
is measured: see ``Autotuner``.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from model.kernels.gpu.selection import Choice, few_parts, rows_problem, selected
from model.kernels.gpu.support import TRITON_INSTALLED

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.response_norm import response_norm_triton

OPERATION = "response_norm"
"""Name of its problems in an ``Autotuner``."""


def response_norm(
    rows: Tensor, squares: Tensor | None, gamma: Tensor, beta: Tensor, choice: Choice
) -> Tensor:
    """Scale each channel by an image's energy in it relative to the mean channel, and shift it.

    Args:
        rows: an image's pixels, (B, N, C), or the rows of a weight for all images, (1, N, C).
        squares: partial sums of squares over each image's pixels, (B, parts, C), at least float32;
            None if the rows are those pixels.
        gamma: the norm's weight, (C,).
        beta: its bias, (C,).
        choice: the implementation.

    Returns:
        ``rows * (1 + gamma * energy / mean energy) + beta``, (B, N, C), in the dtype of the rows.

    Raises:
        ValueError: if the requested implementation does not run here.

    Source: ConvNeXt V2 (arXiv:2301.00808), with the authors' eps inside the division.
    """
    partial = rows if squares is None else squares
    problem = rows_problem(OPERATION, rows, partial)
    implementation = selected(choice, problem, (rows, partial, gamma, beta))
    if implementation == "plain":
        return response_norm_reference(rows, squares, gamma, beta)
    if not few_parts(partial):
        squares = sums_of_squares(rows) if squares is None else squares.sum(dim=1, keepdim=True)
    return cast("Tensor", response_norm_triton(rows, squares, gamma, beta, implementation))


def response_norm_reference(
    rows: Tensor, squares: Tensor | None, gamma: Tensor, beta: Tensor
) -> Tensor:
    """Do as ``response_norm``, by PyTorch's operators."""
    if squares is None:
        squares = sums_of_squares(rows)
    energy = squares.sum(dim=1, keepdim=True).sqrt()
    relative = energy / (energy.mean(dim=2, keepdim=True) + 1e-6)
    return (beta + rows * (1 + gamma * relative)).to(rows.dtype)


def sums_of_squares(rows: Tensor) -> Tensor:
    """Sum the squared rows of (B, N, C) to (B, 1, C), at least in float32."""
    sum_type = torch.promote_types(rows.dtype, torch.float32)
    return rows.to(sum_type).square().sum(dim=1, keepdim=True)
