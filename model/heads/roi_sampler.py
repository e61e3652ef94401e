"""Choose how boxes are resampled from one image's pyramid: by a GPU's kernel, or plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from model.heads.fpn import STRIDES
from model.heads.roi_align import FINEST_SIDE_PIXELS, LEVELS, PyramidPixels, roi_align
from model.kernels.gpu.support import TRITON_INSTALLED, triton_unsupported_reason

# Triton's operators bring PyTorch's compiler along: two seconds that a CPU need not wait.
if TRITON_INSTALLED and torch.cuda.is_available():
    from model.kernels.gpu.roi_align import roi_align_triton

RoiSampler = Callable[[Tensor, int], Tensor]
"""Boxes (N, 4) in input pixels and the bins of a side -> features (N, C, side, side)."""


def roi_sampler(pyramid: Sequence[Tensor]) -> RoiSampler:
    """Return RoIAlign of one image's pyramid, its maps (C, H_i, W_i), strides as ``fpn.STRIDES``.

    The kernel reads the maps where they are, and waits for nothing; ``roi_align`` collects them in
    one table, and has the host divide the boxes by the shape of their crops.
    """
    levels = list(pyramid[:LEVELS])
    if triton_unsupported_reason(*levels) is None:
        return partial(_by_kernel, levels)
    return partial(roi_align, PyramidPixels.of(pyramid))


def _by_kernel(levels: list[Tensor], boxes: Tensor, output_side: int) -> Tensor:
    pooled = roi_align_triton(levels, boxes, output_side, STRIDES[0], FINEST_SIDE_PIXELS)
    return cast("Tensor", pooled)
