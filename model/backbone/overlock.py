"""The OverLoCK backbone: base net, overview net, focus net.

Source: OverLoCK (arXiv:2502.20087), figure 2.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.layers import ConvNorm, ConvScale, LayerNorm2d
from model.backbone.trainable import Trainable
from model.config import BackboneConfig

MINIMUM_INPUT_SIDE = 32
"""Shortest side of an input, pixels, for which the last stage has a full pixel."""

DenseForm = Literal["segment", "detect"]
"""The task that the four dense maps are for; a detector's fourth one includes the overview."""


def downsample(in_channels: int, out_channels: int) -> ConvNorm:
    """Build a 3x3 convolution with stride 2 and its norm."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
    return ConvNorm(conv, out_channels)


class Stem(nn.Module):
    """Four 3x3 convolutions to a quarter of the input size: (B, 3, H, W) -> (B, C, H/4, W/4).

    Args:
        channels: C.
        in_channels: of the images.
    """

    def __init__(self, channels: int, in_channels: int = 3) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.ModuleList(
            ConvNorm(
                nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False), width_out
            )
            for width_in, width_out, stride in (
                (in_channels, half, 2),
                (half, half, 1),
                (half, channels, 2),
                (channels, channels, 1),
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        features = images
        for index, layer in enumerate(self.layers):
            features = layer(features if index == 0 else F.gelu(features))
        return features


class FocusStage(nn.ModuleList):
    """Dynamic blocks of one resolution, each of which refines what the one before it made."""

    def forward(self, features: Tensor, context: Tensor, initial_context: Tensor) -> Tensor:
        """Refine features and context together; arguments and result as of ``DynamicBlock``."""
        widths = [features.shape[1], context.shape[1]]
        for block in self:
            joint: Tensor = block(features, context, initial_context)
            features, context = joint.split(widths, dim=1)
        return joint


class OverLoCK(Trainable):
    """The backbone.

    Args:
        config: the variant.
        merged: whether large kernels are built in their merged form, as in the authors'
            ``*_reparam`` checkpoints.
        dense: the task of ``dense_features``; None for a classifier, whose maps have no norms.
    """

    def __init__(
        self, config: BackboneConfig, *, merged: bool = False, dense: DenseForm | None = None
    ) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.stem = Stem(width[0], config.in_channels)
        self.stage1 = _basic_stage(config, 0, merged=merged)
        self.downsample2 = downsample(width[0], width[1])
        self.stage2 = _basic_stage(config, 1, merged=merged)
        self.downsample3 = downsample(width[1], width[2])
        self.stage3 = _basic_stage(config, 2, merged=merged)

        self.overview_downsample = downsample(width[2], width[3])
        self.overview = _basic_stage(config, 3, merged=merged)
        self.context_projection = nn.Conv2d(width[3], config.context_channels, 1)

        self.focus3 = _focus_stage(config, 2, merged=merged)
        self.features_downsample = downsample(width[2], width[3])
        self.context_downsample = downsample(config.context_channels, config.context_channels)
        self.focus4 = _focus_stage(config, 3, merged=merged)

        self.dense = dense
        if dense is not None:
            self.dense_norms = nn.ModuleList(LayerNorm2d(c) for c in self.dense_channels)
        if dense == "detect":
            self.overview_norm = LayerNorm2d(width[3])
            self.overview_to_dense = ConvScale(width[3], self.out_channels)

    def set_drop_path(self, rate: float) -> None:
        """Drop residual branches in training, ever more often from the first block to the last.

        Args:
            rate: of the last block; the first one's is 0.
        """
        stages = (self.stage1, self.stage2, self.stage3, self.overview, self.focus3, self.focus4)
        blocks = [cast("BasicBlock | DynamicBlock", block) for stage in stages for block in stage]
        for block, block_rate in zip(blocks, torch.linspace(0, rate, len(blocks)), strict=True):
            block.drop_path.rate = block_rate.item()

    @property
    def in_channels(self) -> int:
        """Channels of the input: 3 of RGB, 1 of grey."""
        return next(self.stem.parameters()).shape[1]

    @property
    def out_channels(self) -> int:
        """Width of the last map: features and context side by side."""
        return self.config.channels[3] + self.config.context_channels

    @property
    def dense_channels(self) -> tuple[int, int, int, int]:
        """Widths of the four dense maps."""
        width, context = self.config.channels, self.config.context_channels
        return width[0], width[1], width[2] + context, width[3] + context

    def forward(self, images: Tensor) -> Tensor:
        """Compute the focus net's last map: the second of ``last_maps``."""
        return self.last_maps(images)[1]

    def last_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the last maps of the overview net and of the focus net.

        Args:
            images: normalised RGB, (B, 3, H, W), each side at least 32 pixels.

        Returns:
            The overview, (B, C4, h, w), and the focus net's features and context side by side,
            (B, C4 + C4 // 4, h, w); h and w are H/32 and W/32, rounded up.

        Raises:
            ValueError: if a side is below 32 pixels.
        """
        *_, base = self._base(images)
        overview = self._overview(base)
        _, focus = self._focus(base, self.context_projection(overview))
        return overview, focus

    def dense_features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the maps that dense tasks build on.

        A segmenter's and a detector's are normalised, each by a norm of its own. A classifier has
        no such norms: its maps are the stages' outputs as they are.

        Args:
            images: normalised RGB, (B, 3, H, W), each side at least 32 pixels.

        Returns:
            Stage 1, stage 2, focus stage 3 and focus stage 4 (both with their context behind the
            features) at strides 4, 8, 16 and 32, with the widths of ``dense_channels``.

        Raises:
            ValueError: if a side is below 32 pixels.

        Source: the authors' segmentation and detection backbones (LMMMEng/OverLoCK).
        """
        stage1, stage2, base = self._base(images)
        overview = self._overview(base)
        focus3, focus4 = self._focus(base, self.context_projection(overview))
        if self.dense is None:
            return stage1, stage2, focus3, focus4
        norm1, _, norm3, norm4 = self.dense_norms
        fourth = norm4(focus4)
        if self.dense == "detect":
            fourth = fourth + self.overview_to_dense(self.overview_norm(overview))
        return norm1(stage1), stage2, norm3(focus3), fourth

    def _base(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Base net: (B, 3, H, W) -> stages 1 to 3, at strides 4, 8 and 16."""
        height, width = images.shape[2:]
        if min(height, width) < MINIMUM_INPUT_SIDE:
            raise ValueError(
                f"A {height}x{width} input is too small: each side needs at least "
                f"{MINIMUM_INPUT_SIDE} pixels."
            )
        stage1: Tensor = self.stage1(self.stem(images))
        stage2: Tensor = self.stage2(self.downsample2(stage1))
        if self.dense is not None:
            # The only dense map whose normalised form is also the next stage's input: the authors'
            # dense backbones overwrite it, and their weights were trained with that.
            stage2 = self.dense_norms[1](stage2)
        stage3: Tensor = self.stage3(self.downsample3(stage2))
        return stage1, stage2, stage3

    def _overview(self, base: Tensor) -> Tensor:
        """Overview net: (B, C3, H/16, W/16) -> (B, C4, H/32, W/32)."""
        overview: Tensor = self.overview(self.overview_downsample(base))
        return overview

    def _focus(self, features: Tensor, overview_context: Tensor) -> tuple[Tensor, Tensor]:
        """Focus net, from the base net's map and the overview's context (B, C_context, h, w).

        Returns:
            Features and context side by side, after focus stages 3 and 4.
        """
        initial_context = context = F.interpolate(
            overview_context, size=features.shape[2:], mode="bilinear", align_corners=False
        )
        joint3: Tensor = self.focus3(features, context, initial_context)
        features, context = joint3.split([self.config.channels[2], context.shape[1]], dim=1)
        features = self.features_downsample(features)
        context = self.context_downsample(context)
        joint4: Tensor = self.focus4(features, context, overview_context)
        return joint3, joint4


def _basic_stage(config: BackboneConfig, stage: int, *, merged: bool) -> nn.Sequential:
    return nn.Sequential(
        *(
            BasicBlock(
                config.channels[stage],
                config.kernel_sizes[stage],
                config.hidden_channels(stage),
                layer_scale=config.layer_scale[stage],
                merged=merged,
            )
            for _ in range(config.depths[stage])
        )
    )


def _focus_stage(config: BackboneConfig, stage: int, *, merged: bool) -> FocusStage:
    return FocusStage(
        DynamicBlock(config, stage, first=stage == 2 and index == 0, merged=merged)
        for index in range(config.focus_depths[stage - 2])
    )
