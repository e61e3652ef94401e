"""Candidates for the problems of ``response_norm`` and ``squeeze_excite``.

"plain" stands for the compiled network's form of it, so it launches what the compiler cannot fuse
and leaves out what it fuses. Where it is measured to be faster, it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.kernels import response_norm as norm
from model.kernels import squeeze_excite as excite
from model.kernels.gpu.autotune import Problem
from model.kernels.gpu.selection import TILES, Implementation
from model.kernels.gpu.support import triton_unsupported_reason

PARTS = 8
"""Partial sums of an image: some number between those of small maps and of large ones."""


class _RowsProblem(NamedTuple):
    """The fields of a problem, in the order of ``rows_problem``."""

    operation: str
    images: str
    kind: str
    row_count: int
    channels: int
    dtype: torch.dtype
    device: torch.device


def rows_candidates(problem: Problem, batch: int) -> dict[str, Callable[[], object]]:
    """Return every implementation that runs on the problem's device, by name.

    Args:
        problem: as ``rows_problem`` returns it.
        batch: number of images.
    """
    fields = _RowsProblem(*problem)  # type: ignore[arg-type]
    # Not the device's own generator: a capture that failed leaves it unusable.
    generator = torch.Generator(fields.device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=fields.device).to(fields.dtype)

    channels, is_own = fields.channels, fields.kind == "own sums"
    with torch.inference_mode():
        rows = normal(1 if fields.kind == "weight" else batch, fields.row_count, channels)
        sum_type = torch.promote_types(fields.dtype, torch.float32)
        sums = None if is_own else normal(batch, PARTS, channels).to(sum_type).square()
        gamma, beta = normal(channels), normal(channels)
        hidden_channels = max(16, channels // 8)
        to_hidden = normal(hidden_channels, channels)
        layers = (to_hidden, gamma[:hidden_channels], to_hidden.clone(), beta)
    run: Callable[[Implementation], object]
    plain: Callable[[], object]
    if fields.operation == norm.OPERATION:
        run = partial(torch.inference_mode()(norm.response_norm), rows, sums, gamma, beta)
        plain = partial(_norm_passes, rows, sums)
    else:
        # The network gates a map once more where its sums are its own.
        gate = rows if is_own else None

        def run(tile: Implementation) -> Tensor:
            with torch.inference_mode():
                return excite.squeeze_excite(rows, sums, 49, layers, tile, gate)

        plain = partial(_excite_passes, rows, sums, layers)
    candidates: dict[str, Callable[[], object]] = {"plain": plain}
    if triton_unsupported_reason(rows, *layers) is None:
        candidates |= {tile: partial(run, tile) for tile in TILES}
    return candidates


@torch.inference_mode()
def _norm_passes(rows: Tensor, squares: Tensor | None) -> Tensor:
    energy = (rows if squares is None else squares).sum(dim=1, keepdim=True, dtype=rows.dtype)
    return rows * (energy / energy.mean(dim=2, keepdim=True))


@torch.inference_mode()
def _excite_passes(rows: Tensor, sums: Tensor | None, layers: excite.Layers) -> Tensor:
    to_hidden, hidden_bias, to_gates, gates_bias = layers
    means = (rows if sums is None else sums).sum(dim=1, dtype=rows.dtype)
    hidden = F.gelu(F.linear(means, to_hidden, hidden_bias))
    return rows * torch.addmm(gates_bias, hidden, to_gates).unsqueeze(1)
