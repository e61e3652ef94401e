"""OverLoCK's blocks for inference on a CPU, on our C kernels.

Between the dense convolutions every map is read and written as seldom as possible: a depthwise
convolution also computes the sums that squeeze-excite or the response norm needs, a layer norm also
scales the identity path, a 1x1 convolution adds its result to that path. Maps are channels_last
throughout; nothing is copied between layouts.

Built from folded blocks and equal to them up to rounding; in bfloat16 closer to the float32 network
than they are, since sums, norms, gates and softmaxes stay in float32.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.context_mixing import FoldedContextMixing, resize_around
from model.backbone.layers import (
    FeedForward,
    GlobalResponseNorm,
    LayerNorm2d,
    LayerScale,
    SqueezeExcite,
)
from model.backbone.overlock import Stem
from model.kernels.cpu.contexts import join_context, mix_keys, pool_to_grid
from model.kernels.cpu.dense_conv import dense_conv
from model.kernels.cpu.ops import (
    LOG2_E,
    DepthwiseTaps,
    Excitation,
    Statistic,
    channel_statistic,
    depthwise,
    excite_,
    layer_norm,
    mix_context,
    padded_bias_windows,
    response_norm_,
)

HIDDEN_BYTES = 4 * 2**20
"""Size of the hidden maps processed at a time, so that all four passes find them cached."""


class NativeStem(nn.Module):
    """The stem, with GELU fused into its convolutions."""

    def __init__(self, stem: Stem, dtype: torch.dtype) -> None:
        super().__init__()
        *inner, last = cast("list[nn.Conv2d]", list(stem.layers))
        self.layers = nn.Sequential(
            *(dense_conv(conv, dtype, "gelu") for conv in inner), dense_conv(last, dtype)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Take images to a quarter of their size: (B, 3, H, W) -> (B, C, H/4, W/4)."""
        return cast("Tensor", self.layers(images))


class NativeLayerNorm(nn.Module):
    """Layer norm over the channels of every pixel, fused with the identity path's scale."""

    def __init__(self, norm: LayerNorm2d, scale: nn.Module | None = None) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight.detach().float(), norm.bias.detach().float()
        self.scale = (
            scale.weight.detach().float().flatten() if isinstance(scale, LayerScale) else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, H, W); multiply ``features`` by the scale, if any, in place."""
        return _as_features(self.normalise_pixels(as_pixels(features)))

    def normalise_pixels(self, pixels: Tensor) -> Tensor:
        """Apply ``forward`` to (B, H, W, C)."""
        return layer_norm(pixels, self.weight, self.bias, self.scale)


class NativeFeedForward(nn.Module):
    """The pointwise half of a block, added to the block's identity path.

    Args:
        trained: the folded layer.
        identity: the layer scale of the identity path, whose bias is added here.
        dtype: of the maps.
    """

    def __init__(self, trained: FeedForward, identity: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.hidden_channels = trained.expand.out_channels
        self.expand = dense_conv(trained.expand, dtype, "gelu")
        self.position = residual_taps(cast("nn.Conv2d", trained.position), dtype)
        self.gamma = trained.response_norm.gamma.detach().float().flatten()
        # The response norm's beta is a constant: folded into the projection's bias.
        weight = trained.project.weight.detach().double()[:, :, 0, 0]
        bias = weight @ trained.response_norm.beta.detach().double().flatten()
        bias += _bias(trained.project).double()
        self.project = dense_conv(trained.project, dtype, bias=bias + _scale_bias(identity))

    def add_to(self, identity: Tensor, pixels: Tensor) -> Tensor:
        """Add the output for ``pixels`` to ``identity`` in place; both (B, H, W, C)."""
        images = max(1, HIDDEN_BYTES // (self.hidden_channels * pixels[0, ..., 0].nbytes))
        for total, chunk in zip(identity.split(images), pixels.split(images), strict=True):
            self._add_chunk(total, chunk)
        return identity

    def _add_chunk(self, identity: Tensor, pixels: Tensor) -> None:
        hidden = as_pixels(self.expand(_as_features(pixels)))
        hidden, squares = depthwise(hidden, self.position, statistic=Statistic.SQUARES)
        response_norm_(hidden, squares, self.gamma)
        self.project.add_to(_as_features(identity), _as_features(hidden))


class NativeBasicBlock(nn.Module):
    """A basic block: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: BasicBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.position = residual_taps(cast("nn.Conv2d", block.position), dtype)
        self.norm = NativeLayerNorm(block.norm, block.identity_scale)
        self.large_kernel = taps_of(cast("nn.Conv2d", block.large_kernel), dtype)
        self.excitation = _excitation(block.squeeze_excite)
        self.feed_forward = NativeFeedForward(block.feed_forward, block.identity_scale, dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Run the block."""
        identity, _ = depthwise(as_pixels(features), self.position)
        local = self.norm.normalise_pixels(identity)
        local, sums = depthwise(local, self.large_kernel, statistic=Statistic.SUMS)
        excite_(local, sums, self.excitation)
        return _as_features(self.feed_forward.add_to(identity, local))


class NativeContextMixing(nn.Module):
    """ContMix; same arguments and result as ``FoldedContextMixing``."""

    def __init__(self, mixing: FoldedContextMixing, dtype: torch.dtype) -> None:
        super().__init__()
        self.kernel_size, self.context_grid = mixing.kernel_size, mixing.context_grid
        self.query_channels = mixing.query.in_channels
        self.query = dense_conv(widened_input(mixing.query, mixing.key.in_channels), dtype)
        self.key = dense_conv(mixing.key, dtype)
        self.groups = mixing.groups
        self.key_mix = (mixing.key_mix * LOG2_E).to(dtype).float().contiguous()
        self.small_bias = padded_bias_windows(mixing.small_bias)
        self.large_bias = padded_bias_windows(mixing.large_bias)

    def forward(self, values: Tensor, guided: Tensor) -> Tensor:
        """Mix ``values`` under the guidance of the context."""
        return resize_around(self.kernel_size, self._mix, values, guided)

    def _mix(self, values: Tensor, guided: Tensor) -> Tensor:
        # (B, C + C_context, H, W) -> (B, H, W, C_context)
        context = guided.permute(0, 2, 3, 1)[..., self.query_channels :]
        keys = self.key(_as_features(pool_to_grid(context, self.context_grid)))
        virtual_keys = mix_keys(self.key_mix, as_pixels(keys), self.groups)  # (B, G, taps, D)
        mixed = mix_context(
            as_pixels(values),
            as_pixels(self.query(guided)),
            virtual_keys,
            self.small_bias,
            self.large_bias,
        )
        return _as_features(mixed)


class NativeDynamicBlock(nn.Module):
    """A dynamic block; same arguments and result as ``DynamicBlock``."""

    def __init__(self, block: DynamicBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = block.first
        self.context_scales = None
        if not block.first:
            scale, initial_scale = block.context_scale, block.initial_context_scale
            rows = (scale.bias + initial_scale.bias, initial_scale.weight, scale.weight)
            # (3, C_context), as ``join_context`` takes it
            self.context_scales = (
                torch.stack([row.detach().flatten() for row in rows]).to(dtype).float()
            )
        self.position_in = residual_taps(cast("nn.Conv2d", block.position_in), dtype)
        self.norm_in = NativeLayerNorm(block.norm_in, block.identity_scale)
        self.fuse_position = taps_of(cast("nn.Conv2d", block.fuse_position), dtype)
        self.fuse_project = dense_conv(block.fuse_project, dtype)
        self.fuse_gamma, self.fuse_beta = _response_norm(block.fuse_norm)
        self.gate = dense_conv(cast("nn.Conv2d", block.gate), dtype, "swish")
        self.local = taps_of(cast("nn.Conv2d", block.local), dtype)
        self.context_mixing = NativeContextMixing(
            cast("FoldedContextMixing", block.context_mixing), dtype
        )
        self.mixed_project = dense_conv(cast("nn.Conv2d", block.mixed_project), dtype)
        self.excitation = _excitation(block.squeeze_excite)
        project = cast("nn.Conv2d", block.project)
        bias = _bias(project).double() + _scale_bias(block.identity_scale)
        self.project = dense_conv(project, dtype, bias=bias)
        self.position_out = residual_taps(cast("nn.Conv2d", block.position_out), dtype)
        self.norm_out = NativeLayerNorm(block.norm_out, block.output_scale)
        self.feed_forward = NativeFeedForward(block.feed_forward, block.output_scale, dtype)

    def forward(self, features: Tensor, context: Tensor, initial_context: Tensor) -> Tensor:
        """Refine features and context together."""
        joint = join_context(
            features.permute(0, 2, 3, 1),
            context.permute(0, 2, 3, 1),
            None if self.first else initial_context.permute(0, 2, 3, 1),
            self.context_scales,
        )
        joint, _ = depthwise(joint, self.position_in)
        guided = self.norm_in.normalise_pixels(joint)
        focused = self._focus(guided)
        joint = as_pixels(self.project.add_to(_as_features(joint), focused))
        joint, _ = depthwise(joint, self.position_out)
        return _as_features(self.feed_forward.add_to(joint, self.norm_out.normalise_pixels(joint)))

    def _focus(self, guided: Tensor) -> Tensor:
        """Fuse, mix and gate: (B, H, W, C + C_context) -> (B, C, H, W)."""
        positioned, _ = depthwise(guided, self.fuse_position, activated=True)
        fused = self.fuse_project(_as_features(positioned))
        pixels = as_pixels(fused)
        squares = channel_statistic(pixels, Statistic.SQUARES)
        response_norm_(pixels, squares, self.fuse_gamma, self.fuse_beta)
        gate = self.gate(fused)
        mixed = self.context_mixing(fused, _as_features(guided))
        local, _ = depthwise(pixels, self.local)
        mixed = self.mixed_project.add_to(_as_features(local), mixed)
        sums = channel_statistic(local, Statistic.SUMS)
        excite_(local, sums, self.excitation, as_pixels(gate))
        return mixed


def as_pixels(features: Tensor) -> Tensor:
    """View (B, C, H, W) in channels_last as (B, H, W, C); copy it from another format."""
    return features.permute(0, 2, 3, 1).contiguous()


def _as_features(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2)


def taps_of(conv: nn.Conv2d, dtype: torch.dtype) -> DepthwiseTaps:
    """Lay out a depthwise convolution for our kernel."""
    return DepthwiseTaps.of(conv.weight.detach(), _bias(conv), dtype)


def residual_taps(conv: nn.Conv2d, dtype: torch.dtype) -> DepthwiseTaps:
    """Lay out a folded residual one; the map is added in float32, not by a rounded tap."""
    weight = conv.weight.detach().double().clone()
    weight[:, :, 1, 1] -= 1.0
    return DepthwiseTaps.of(weight.float(), _bias(conv), dtype, residual=True)


def widened_input(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a 1x1 convolution with additional input channels of zero weight.

    Multiplying by zeros costs less than copying the other channels out of a map.
    """
    wide = nn.Conv2d(conv.in_channels + channels, conv.out_channels, 1)
    wide.weight = nn.Parameter(F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, channels)))
    wide.bias = nn.Parameter(_bias(conv))
    return wide


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.detach()


def _scale_bias(scale: nn.Module) -> Tensor | float:
    return scale.bias.detach().double() if isinstance(scale, LayerScale) else 0.0


def _response_norm(norm: GlobalResponseNorm) -> tuple[Tensor, Tensor]:
    return norm.gamma.detach().float().flatten(), norm.beta.detach().float().flatten()


def _excitation(layer: SqueezeExcite) -> Excitation:
    return Excitation(
        layer.reduce.weight.detach().float().flatten(1).contiguous(),
        _bias(layer.reduce).float(),
        layer.expand.weight.detach().float().flatten(1).T.contiguous(),
        _bias(layer.expand).float(),
    )
