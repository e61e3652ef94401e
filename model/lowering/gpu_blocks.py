"""OverLoCK's blocks for inference on a GPU.

Between the products every map is read and written as seldom as possible, and a launch does what it
can: a position convolution also normalises and scales the sum around the block, to which the last
product is added in place; the large one also computes squeeze-excite's sums, the hidden map's also
applies bias and GELU and sums squares. Squeeze-excite's gates and the response norm's scales go
into the weight of the product behind them where that is smaller than the map.

Built from folded blocks and equal to them up to rounding, on any device: where our kernels do not
run, PyTorch's operators do. The counts are in docs/performance.md.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.context_mixing import FoldedContextMixing
from model.backbone.layers import LayerScale, bias_of
from model.backbone.overlock import FocusStage
from model.kernels.gpu.autotune import Autotuner
from model.kernels.scaled_product import add_product, as_map, as_rows
from model.lowering.gpu_context_mixing import GpuContextMixing
from model.lowering.gpu_layers import (
    DepthwiseGelu,
    Excitation,
    GpuFeedForward,
    LargeDepthwise,
    PositionNorm,
    ResponseNorm,
)
from model.lowering.pixel_product import PixelProduct, matrix_of


class GpuBasicBlock(nn.Module):
    """A basic block: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: BasicBlock, autotuner: Autotuner) -> None:
        super().__init__()
        position = cast("nn.Conv2d", block.position)
        scale, shift = _affine(block.identity_scale, position)
        shift = shift + GpuFeedForward.constant_of(block.feed_forward)
        self.position = PositionNorm(position, block.norm, scale, shift, autotuner)
        self.large_kernel = LargeDepthwise(cast("nn.Conv2d", block.large_kernel), autotuner)
        self.squeeze_excite = Excitation(block.squeeze_excite, autotuner)
        self.feed_forward = GpuFeedForward(block.feed_forward, autotuner)
        self.train(block.training)

    def forward(self, features: Tensor) -> Tensor:
        """Run the block."""
        residual, normalised = self.position(features)
        local, sums = self.large_kernel.with_sums(normalised)
        pixels = local.shape[2] * local.shape[3]
        gated = partial(self.squeeze_excite, sums=sums, pixels=pixels)
        return cast("Tensor", self.feed_forward(local, residual, gated))


class GpuDynamicBlock(nn.Module):
    """A dynamic block, and the next one's sum of contexts: (B, C + C_context, H, W) -> the same.

    Args:
        block: the folded block.
        following: the next one of its stage; None behind the last one.
        autotuner: the fastest implementations.
    """

    project: Tensor
    mixed_project: Tensor

    def __init__(
        self, block: DynamicBlock, following: DynamicBlock | None, autotuner: Autotuner
    ) -> None:
        super().__init__()
        position_in = cast("nn.Conv2d", block.position_in)
        position_out = cast("nn.Conv2d", block.position_out)
        project, mixed_project = (
            cast("nn.Conv2d", each) for each in (block.project, block.mixed_project)
        )
        scale, shift = _affine(block.identity_scale, position_in)
        shift = shift + bias_of(project)
        self.position_in = PositionNorm(position_in, block.norm_in, scale, shift, autotuner)
        self.fuse_position = DepthwiseGelu(cast("nn.Conv2d", block.fuse_position), autotuner)
        self.fuse_project = PixelProduct(block.fuse_project)
        self.fuse_norm = ResponseNorm(block.fuse_norm, autotuner)
        self.gate = PixelProduct(block.gate)
        self.local = LargeDepthwise(
            cast("nn.Conv2d", block.local), autotuner, bias_of(mixed_project)
        )
        self.context_mixing = GpuContextMixing(
            cast("FoldedContextMixing", block.context_mixing), autotuner
        )
        self.register_buffer("mixed_project", matrix_of(mixed_project))
        self.squeeze_excite = Excitation(block.squeeze_excite, autotuner)
        self.register_buffer("project", matrix_of(project))
        scale, shift = _affine(block.output_scale, position_out)
        shift = shift + GpuFeedForward.constant_of(block.feed_forward)
        factors, context_shift, context_scale = _next_context(block, following)
        self.position_out = PositionNorm(
            position_out,
            block.norm_out,
            scale * factors,
            shift * factors + context_shift,
            autotuner,
            context_scale,
        )
        self.feed_forward = GpuFeedForward(block.feed_forward, autotuner, factors)
        self.train(block.training)

    def forward(self, joint: Tensor, initial_context: Tensor) -> Tensor:
        """Refine features and context together.

        Args:
            joint: features, and the context that this block reads, side by side.
            initial_context: from the overview net, (B, C_context, H, W).

        Returns:
            Features, and the context that the next block reads, side by side.
        """
        joint, guided = self.position_in(joint)
        add_product(joint, self._focus(guided), self.project)
        residual, normalised = self.position_out(joint, initial_context)
        return cast("Tensor", self.feed_forward(normalised, residual))

    def _focus(self, guided: Tensor) -> Tensor:
        """Fuse, mix and gate: (B, C + C_context, H, W) -> (B, H*W, C)."""
        height, width = guided.shape[2:]
        fused = self.fuse_project(self.fuse_position(guided))
        fused = as_map(self.fuse_norm(as_rows(fused)), height, width)
        mixed = self.local(fused)
        add_product(mixed, as_rows(self.context_mixing(fused, guided)), self.mixed_project)
        gate = as_rows(self.gate(fused))
        gated = self.squeeze_excite(as_rows(mixed), None, height * width, gate)
        return cast("Tensor", gated)


class FocusEntry(nn.Module):
    """Features and the context that a stage's first block reads, side by side."""

    def __init__(self, first: DynamicBlock) -> None:
        super().__init__()
        self.first = first.first
        if not first.first:
            self.context_scale = first.context_scale
            self.initial_context_scale = first.initial_context_scale
        self.train(first.training)

    def forward(self, features: Tensor, context: Tensor, initial_context: Tensor) -> Tensor:
        """Return (B, C + C_context, H, W); arguments as of ``DynamicBlock``."""
        if not self.first:
            context = self.context_scale(context) + self.initial_context_scale(initial_context)
        return torch.cat((features, context), dim=1)


class GpuFocusStage(nn.Module):
    """A stage of the focus net; same arguments and result as ``FocusStage``."""

    def __init__(self, stage: FocusStage, autotuner: Autotuner) -> None:
        super().__init__()
        blocks = [cast("DynamicBlock", block) for block in stage]
        self.entry = FocusEntry(blocks[0])
        self.blocks = nn.ModuleList(
            GpuDynamicBlock(block, following, autotuner)
            for block, following in zip(blocks, [*blocks[1:], None], strict=True)
        )
        self.train(stage.training)

    def forward(self, features: Tensor, context: Tensor, initial_context: Tensor) -> Tensor:
        """Refine features and context together."""
        joint: Tensor = self.entry(features, context, initial_context)
        for block in self.blocks:
            joint = block(joint, initial_context)
        return joint


def _next_context(
    block: DynamicBlock, following: DynamicBlock | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what makes of a block's result the next one's input.

    Returns:
        Factors and constants of all channels, both (C + C_context,), and the initial context's
        factors, (C_context,), all float64.
    """
    channels, context_channels = block.widths
    zeros = torch.zeros_like(bias_of(cast("nn.Conv2d", block.position_out)))
    own, context = zeros.split([channels, context_channels])
    if following is None:
        # Blocks share their compiled code: the last one adds the context, too, without weight.
        return zeros + 1, zeros, context
    scale, initial_scale = following.context_scale, following.initial_context_scale
    factors = torch.cat((own + 1, scale.weight.detach().double().flatten()))
    constants = scale.bias.detach().double() + initial_scale.bias.detach().double()
    return (
        factors,
        torch.cat((own, constants)),
        initial_scale.weight.detach().double().flatten(),
    )


def _affine(scale: nn.Module, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return factors and constants of a convolved map's layer scale, if any, (C,) float64."""
    if isinstance(scale, LayerScale):
        return scale.weight.detach().double().flatten(), scale.bias.detach().double()
    zeros = torch.zeros_like(bias_of(conv))
    return zeros + 1, zeros
