"""ContMix for inference on a GPU: one product for queries and keys, one for virtual keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.context_mixing import FoldedContextMixing, resize_around
from model.backbone.layers import bias_of
from model.kernels.context_mixing import context_mixing
from model.kernels.gpu.autotune import Autotuner
from model.kernels.scaled_product import as_rows
from model.lowering.pixel_product import matrix_of, pixel_product


class GpuContextMixing(nn.Module):
    """ContMix of values (B, C, H, W) under guidance (B, C + C_context, H, W): (B, C, H, W).

    One product makes the queries of all pixels and the keys of all pixels, which are pooled
    afterwards: pooling and the product commute.

    Args:
        folded: the layer.
        autotuner: the fastest implementations.
    """

    weight: Tensor
    bias: Tensor
    key_mix: Tensor
    small_bias: Tensor
    large_bias: Tensor

    def __init__(self, folded: FoldedContextMixing, autotuner: Autotuner) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.kernel_size, self.context_grid = folded.kernel_size, folded.context_grid
        self.groups = folded.groups
        query, key = folded.query, folded.key
        # Rows of queries read the features alone, those of keys the context alone.
        self.register_buffer("weight", torch.block_diag(matrix_of(query), matrix_of(key)))
        self.register_buffer(
            "bias", torch.cat((bias_of(query), bias_of(key))).to(query.weight.dtype)
        )
        for name in ("key_mix", "small_bias", "large_bias"):
            self.register_buffer(name, getattr(folded, name))
        self.train(folded.training)

    def forward(self, values: Tensor, guided: Tensor) -> Tensor:
        """Mix; see ``FoldedContextMixing``."""
        return resize_around(self.kernel_size, self._mix, values, guided)

    def _mix(self, values: Tensor, guided: Tensor) -> Tensor:
        queries, keys = pixel_product(guided, self.weight, self.bias).chunk(2, dim=1)
        if keys.shape[2:] != (self.context_grid, self.context_grid):
            keys = F.adaptive_avg_pool2d(keys, self.context_grid)
        # (B, taps, S*S) x (B, S*S, Q) -> (B, taps, Q)
        virtual_keys = torch.bmm(self.key_mix.expand(keys.shape[0], -1, -1), as_rows(keys))
        virtual_keys = virtual_keys.unflatten(2, (self.groups, -1)).transpose(1, 2)
        return context_mixing(
            values,
            queries,
            virtual_keys,
            self.small_bias,
            self.large_bias,
            implementation=self.autotuner,
        )
