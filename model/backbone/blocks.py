"""The two blocks: the basic one of the base and overview nets, the dynamic one of the focus net.

Source: OverLoCK (arXiv:2502.20087), figure 3.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.context_mixing import ContextMixing
from model.backbone.layers import (
    ConvNorm,
    DropPath,
    FeedForward,
    GlobalResponseNorm,
    LayerNorm2d,
    LayerScale,
    NormConv,
    ResidualDepthwise,
    SqueezeExcite,
    depthwise,
)
from model.backbone.reparam import large_kernel_conv
from model.config import BackboneConfig


class BasicBlock(nn.Module):
    """A large-kernel convolution and a feed-forward part: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        hidden_channels: int,
        *,
        layer_scale: bool,
        merged: bool,
    ) -> None:
        super().__init__()
        self.position = ResidualDepthwise(channels)
        self.norm = LayerNorm2d(channels)
        self.large_kernel = ConvNorm(
            large_kernel_conv(channels, kernel_size, merged=merged), channels
        )
        self.squeeze_excite = SqueezeExcite(channels)
        self.feed_forward = FeedForward(channels, hidden_channels)
        self.identity_scale = LayerScale(channels) if layer_scale else nn.Identity()
        self.drop_path = DropPath()

    def forward(self, features: Tensor) -> Tensor:
        features = self.position(features)
        local = self.squeeze_excite(self.large_kernel(self.norm(features)))
        branch = self.drop_path(self.feed_forward(local))
        return torch.add(self.identity_scale(features), branch)


class DynamicBlock(nn.Module):
    """A ContMix block: refines features under the guidance of the overview's context.

    Args:
        config: the variant.
        stage: index of its stage, which sets width and kernel (2 or 3).
        first: whether it is the focus net's first block, whose context is the initial context.
        merged: whether large kernels are built in their merged form.
    """

    def __init__(self, config: BackboneConfig, stage: int, *, first: bool, merged: bool) -> None:
        super().__init__()
        channels, context_channels = config.channels[stage], config.context_channels
        joint = channels + context_channels
        kernel_size = config.kernel_sizes[stage]
        self.widths = [channels, context_channels]
        self.first = first
        if not first:
            self.context_scale = LayerScale(context_channels)
            self.initial_context_scale = LayerScale(context_channels)
        self.position_in = ResidualDepthwise(joint)
        self.norm_in = LayerNorm2d(joint)
        self.fuse_position = ConvNorm(depthwise(joint, 3, bias=True), joint)
        self.fuse_project = nn.Conv2d(joint, channels, 1)
        self.fuse_norm = GlobalResponseNorm(channels)
        self.gate = ConvNorm(nn.Conv2d(channels, channels, 1, bias=False), channels)
        self.local = ConvNorm(large_kernel_conv(channels, kernel_size, merged=merged), channels)
        self.context_mixing = ContextMixing(
            channels,
            context_channels,
            groups=2 * config.focus_heads[stage - 2],
            kernel_size=kernel_size,
            small_kernel=config.small_kernel,
            context_grid=config.context_grid,
        )
        self.mixed_project = ConvNorm(nn.Conv2d(channels, channels, 1, bias=False), channels)
        self.squeeze_excite = SqueezeExcite(channels)
        self.project = NormConv(channels, joint)
        self.identity_scale = LayerScale(joint) if config.layer_scale[stage] else nn.Identity()
        self.position_out = ResidualDepthwise(joint)
        self.norm_out = LayerNorm2d(joint)
        self.feed_forward = FeedForward(joint, config.focus_hidden_channels(stage))
        self.output_scale = LayerScale(joint) if config.layer_scale[stage] else nn.Identity()
        self.drop_path = DropPath()

    def forward(self, features: Tensor, context: Tensor, initial_context: Tensor) -> Tensor:
        """Refine features and context together.

        Args:
            features: (B, C, H, W).
            context: from the previous block, (B, C_context, H, W).
            initial_context: from the overview net, (B, C_context, H, W).

        Returns:
            Refined features and context, side by side, (B, C + C_context, H, W).
        """
        if not self.first:
            context = self.context_scale(context) + self.initial_context_scale(initial_context)
        joint = self.position_in(torch.cat((features, context), dim=1))
        guided = self.norm_in(joint)
        focused = self._focus(guided)
        focused = self.drop_path(self.project(focused))
        joint = self.position_out(focused + self.identity_scale(joint))
        branch = self.drop_path(self.feed_forward(self.norm_out(joint)))
        return torch.add(self.output_scale(joint), branch)

    def _focus(self, guided: Tensor) -> Tensor:
        """Fuse, mix and gate: (B, C + C_context, H, W) -> (B, C, H, W)."""
        fused = self.fuse_norm(self.fuse_project(F.gelu(self.fuse_position(guided))))
        gate = F.silu(self.gate(fused))
        mixed = self.mixed_project(self.context_mixing(fused, guided)) + self.local(fused)
        return cast("Tensor", self.squeeze_excite(mixed)) * gate
