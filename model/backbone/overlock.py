"""The OverLoCK backbone: base net, overview net, focus net.

Source: OverLoCK (arXiv:2502.20087), figure 2.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

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


class StageMaps(NamedTuple):
    """The outputs of the six stages, each (B, C, h, w), without the norms of dense tasks.

    Attributes:
        stage1: at stride 4.
        stage2: at stride 8.
        stage3: at stride 16.
        overview: of the overview net, at stride 32.
        focus3: features and context side by side, at stride 16.
        focus4: the same at stride 32.
    """

    stage1: Tensor
    stage2: Tensor
    stage3: Tensor
    overview: Tensor
    focus3: Tensor
    focus4: Tensor


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
        """Compute the focus net's last map: ``focus4`` of ``stage_maps``."""
        return self.stage_maps(images).focus4

    def stage_maps(self, images: Tensor) -> StageMaps:
        """Compute the maps of all stages.

        Args:
            images: normalised RGB, (B, 3, H, W), each side at least 32 pixels.

        Returns:
            The maps; their sides are H and W over their stride, rounded up.

        Raises:
            ValueError: if a side is below 32 pixels.
        """
        maps, _ = self._stages(images)
        return maps

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
        maps, stage2 = self._stages(images)
        if self.dense is None:
            return maps.stage1, stage2, maps.focus3, maps.focus4
        norm1, _, norm3, _ = self.dense_norms
        return norm1(maps.stage1), stage2, norm3(maps.focus3), self.last_dense_map(maps)

    def last_dense_map(self, maps: StageMaps) -> Tensor:
        """Compute the last of the ``dense_features``, (B, C4 + C4 // 4, h, w)."""
        if self.dense is None:
            return maps.focus4
        last: Tensor = self.dense_norms[3](maps.focus4)
        if self.dense == "detect":
            last = last + self.overview_to_dense(self.overview_norm(maps.overview))
        return last

    def _stages(self, images: Tensor) -> tuple[StageMaps, Tensor]:
        """Compute the maps of all stages, and the input of stage 3's downsampling."""
        height, width = images.shape[2:]
        if min(height, width) < MINIMUM_INPUT_SIDE:
            raise ValueError(
                f"A {height}x{width} input is too small: each side needs at least "
                f"{MINIMUM_INPUT_SIDE} pixels."
            )
        stage1: Tensor = self.stage1(self.stem(images))
        stage2: Tensor = self.stage2(self.downsample2(stage1))
        # The only dense map whose normalised form is also the next stage's input: the authors'
        # dense backbones overwrite it, and their weights were trained with that.
        base2 = stage2 if self.dense is None else self.dense_norms[1](stage2)
        stage3: Tensor = self.stage3(self.downsample3(base2))
        overview: Tensor = self.overview(self.overview_downsample(stage3))
        focus3, focus4 = self._focus(stage3, self.context_projection(overview))
        return StageMaps(stage1, stage2, stage3, overview, focus3, focus4), base2

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
