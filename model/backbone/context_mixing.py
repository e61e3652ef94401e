"""ContMix: a convolution whose weights are computed per pixel from the global context.

Source: OverLoCK (arXiv:2502.20087), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.layers import ConvNorm, like_convolution
from model.kernels.context_mixing import context_mixing, position_bias_windows
from model.kernels.context_mixing_reference import (
    SumWindows,
    context_mixing_reference,
    sum_windows,
)


class _ContextMixingBase(nn.Module):
    """The trained and the folded form's common part: splitting, pooling and small maps."""

    def __init__(self, kernel_size: int, context_grid: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.context_grid = context_grid

    def forward(self, values: Tensor, guided: Tensor) -> Tensor:
        """Mix ``values`` under the guidance of the context.

        Args:
            values: features to aggregate, (B, C, H, W).
            guided: C normalised feature channels for the queries, followed by the context's
                channels for the keys, (B, C + C_context, H, W).

        Returns:
            (B, C, H, W).
        """
        return resize_around(self.kernel_size, self._mix_full_size, values, guided)

    def _mix_full_size(self, values: Tensor, guided: Tensor) -> Tensor:
        features, context = guided.split(
            [values.shape[1], guided.shape[1] - values.shape[1]], dim=1
        )
        return self.mix(values, features, F.adaptive_avg_pool2d(context, self.context_grid))

    def mix(self, values: Tensor, features: Tensor, context: Tensor) -> Tensor:
        """Aggregate ``values``; ``context`` is (B, C_context, S, S)."""
        raise NotImplementedError


class ContextMixing(_ContextMixingBase):
    """ContMix in its trained form, computed by the plain reference.

    Attributes:
        sum_windows: the reference's, or another function of its arguments.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        groups: int,
        kernel_size: int,
        small_kernel: int,
        context_grid: int,
    ) -> None:
        super().__init__(kernel_size, context_grid)
        hidden = channels // 2
        taps = small_kernel**2 + kernel_size**2
        self.sum_windows: SumWindows = sum_windows
        self.query_scale = (channels // groups) ** -0.5
        self.query = ConvNorm(nn.Conv2d(channels, hidden, 1, bias=False), hidden)
        self.key = ConvNorm(nn.Conv2d(context_channels, hidden, 1, bias=False), hidden)
        self.mix_weights = nn.Conv2d(context_grid**2, taps, 1)
        self.small_position_bias = nn.Parameter(
            torch.zeros(groups, 2 * small_kernel - 1, 2 * small_kernel - 1)
        )
        self.large_position_bias = nn.Parameter(
            torch.zeros(groups, 2 * kernel_size - 1, 2 * kernel_size - 1)
        )

    def mix(self, values: Tensor, features: Tensor, context: Tensor) -> Tensor:
        return context_mixing_reference(
            values,
            self.query(features) * self.query_scale,
            self.key(context),
            self.mix_weights.weight.flatten(1),
            cast("Tensor", self.mix_weights.bias),
            self.small_position_bias,
            self.large_position_bias,
            sum_windows=self.sum_windows,
        )

    def folded(self) -> FoldedContextMixing:
        """Return the inference form; ``query`` and ``key`` must be folded already."""
        return FoldedContextMixing(self)


class FoldedContextMixing(_ContextMixingBase):
    """ContMix for inference: virtual keys and position bias tables.

    Attributes:
        aggregate: ``context_mixing``, or another function of its first five arguments.
    """

    key_mix: Tensor
    small_bias: Tensor
    large_bias: Tensor

    def __init__(self, trained: ContextMixing) -> None:
        super().__init__(trained.kernel_size, trained.context_grid)
        query, key = cast("nn.Module", trained.query), cast("nn.Module", trained.key)
        assert isinstance(query, nn.Conv2d), "fold the query's norm first"
        assert isinstance(key, nn.Conv2d), "fold the key's norm first"
        scale = trained.query_scale
        assert query.bias is not None
        self.query = like_convolution(
            query, query.weight.detach().double() * scale, query.bias.detach().double() * scale
        )
        self.key = key
        self.aggregate: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = context_mixing
        self.groups = trained.small_position_bias.shape[0]
        self.register_buffer("key_mix", trained.mix_weights.weight.detach().flatten(1).clone())
        small_taps = ((trained.small_position_bias.shape[-1] + 1) // 2) ** 2
        mix_bias = cast("Tensor", trained.mix_weights.bias).detach()
        self.register_buffer(
            "small_bias",
            position_bias_windows(trained.small_position_bias.detach(), mix_bias[:small_taps]),
        )
        self.register_buffer(
            "large_bias",
            position_bias_windows(trained.large_position_bias.detach(), mix_bias[small_taps:]),
        )
        self.train(trained.training)

    def mix(self, values: Tensor, features: Tensor, context: Tensor) -> Tensor:
        keys = self.key(context).flatten(2)  # (B, Q, S, S) -> (B, Q, S*S)
        keys = keys.unflatten(1, (self.groups, -1))  # (B, G, D, S*S)
        virtual_keys = self.key_mix @ keys.transpose(2, 3)  # (B, G, taps, D)
        return self.aggregate(
            values,
            self.query(features),
            virtual_keys,
            self.small_bias,
            self.large_bias,
        )


def resize_around(
    kernel_size: int, mix: Callable[[Tensor, Tensor], Tensor], values: Tensor, guided: Tensor
) -> Tensor:
    """Mix ``values`` under ``guided``, enlarged to the window's size if they are smaller.

    The result of an enlarged map is pooled back to the size of ``values``.
    """
    height, width = values.shape[2:]
    enlarged = enlarged_size(height, width, kernel_size)
    if enlarged == (height, width):
        return mix(values, guided)
    mixed = mix(_resized(values, enlarged), _resized(guided, enlarged))
    return F.adaptive_avg_pool2d(mixed, (height, width))


def enlarged_size(height: int, width: int, kernel_size: int) -> tuple[int, int]:
    """Return a map's size, or if the window does not fit, the size to enlarge it to."""
    if min(height, width) >= kernel_size:
        return height, width
    # The authors' float expressions: integer division gives other sizes. That of a square may fall
    # below the window by a rounding (15 / 11 * 11 < 15), where theirs fails.
    if height < width:
        return kernel_size, max(kernel_size, int(kernel_size / height * width))
    return max(kernel_size, int(kernel_size / width * height)), kernel_size


def _resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)
