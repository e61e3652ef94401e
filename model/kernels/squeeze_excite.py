"""Squeeze-excite of a map's pixels, or of a weight that multiplies them, from channel sums.

"plain" is PyTorch's operators; the tiles are those of a Triton kernel, one launch. The faster one
is measured: see ``Autotuner``.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels.gpu.selection import Choice, few_parts, rows_problem, selected
from model.kernels.gpu.support import TRITON_INSTALLED

# Only with a GPU: importing triton_op imports PyTorch's compiler, which takes two seconds.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.squeeze_excite import squeeze_excite_triton

OPERATION = "squeeze_excite"
"""Name of its problems in an ``Autotuner``."""

Layers = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weight of the layer to the hidden channels, (H, C), its bias, (H,), weight of the layer from
them, transposed, (H, C), and its bias, (C,)."""


def squeeze_excite(
    rows: Tensor,
    sums: Tensor | None,
    pixels: int,
    layers: Layers,
    choice: Choice,
    gate: Tensor | None = None,
) -> Tensor:
    """Multiply each channel by an image's gate, made from the means of all its channels.

    Args:
        rows: an image's pixels, (B, N, C), or the rows of a weight for all images, (1, N, C).
        sums: partial sums over each image's pixels, (B, parts, C), at least float32; None if the
            rows are those pixels.
        pixels: number of pixels in an image.
        layers: that make the gates.
        choice: the implementation.
        gate: multiplied too, after SiLU, (B, N, C).

    Returns:
        The gated rows, (B, N, C), in their dtype.

    Raises:
        ValueError: if the requested implementation does not run here.

    Source: arXiv:1709.01507, with OverLoCK's GELU between the layers.
    """
    partial = rows if sums is None else sums
    problem = rows_problem(OPERATION, rows, partial)
    gates = () if gate is None else (gate,)
    implementation = selected(choice, problem, (rows, partial, *layers, *gates))
    if implementation == "plain":
        return squeeze_excite_reference(rows, sums, pixels, layers, gate)
    if not few_parts(partial):
        sums = _sums(partial)
    result = squeeze_excite_triton(rows, sums, pixels, *layers, gate, implementation)
    return cast("Tensor", result)


def squeeze_excite_reference(
    rows: Tensor, sums: Tensor | None, pixels: int, layers: Layers, gate: Tensor | None
) -> Tensor:
    """Do as ``squeeze_excite``, by PyTorch's operators."""
    means = _sums(rows if sums is None else sums) / pixels
    to_hidden, hidden_bias, to_gates, gates_bias = (each.to(means.dtype) for each in layers)
    hidden = F.gelu(F.linear(means, to_hidden, hidden_bias))
    gated = rows * torch.sigmoid(hidden @ to_gates + gates_bias)
    return (gated if gate is None else gated * F.silu(gate)).to(rows.dtype)


def _sums(partial: Tensor) -> Tensor:
    """Add up the parts of (B, parts, C) to (B, 1, C), at least in float32."""
    return partial.sum(dim=1, keepdim=True, dtype=torch.promote_types(partial.dtype, torch.float32))
