"""OverLoCK's blocks for inference on a GPU, on our Triton kernels and matrix products.

Between the products every map is read and written as seldom as possible: a position convolution
also normalises, the large one also computes squeeze-excite's sums, the hidden map's also applies
bias and GELU and sums squares. Squeeze-excite's gates and the response norm's scales go into the
weight of the product behind them where that is smaller than the map.

Built from folded blocks and equal to them up to rounding, on any device: where our kernels do not
run, PyTorch's operators do. The counts are in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.context_mixing import FoldedContextMixing
from model.backbone.layers import FeedForward, GlobalResponseNorm, LayerNorm2d, SqueezeExcite
from model.kernels.activated_depthwise import activated_depthwise, pixel_taps
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.large_depthwise import large_depthwise, large_depthwise_with_sums
from model.kernels.position_norm import position_norm
from model.kernels.response_norm import response_norm
from model.kernels.scaled_product import as_map, as_rows, pixel_product, scaled_product
from model.kernels.squeeze_excite import squeeze_excite


class LargeDepthwise(nn.Module):
    """A folded large depthwise convolution: (B, C, H, W) -> (B, C, H, W).

    Args:
        conv: source of weight and bias, on its final device and in its final dtype.
        autotuner: the fastest implementations.
    """

    bias: Tensor
    taps: Tensor

    def __init__(self, conv: nn.Conv2d, autotuner: Autotuner) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.weight = _weight(conv)
        self.register_buffer("bias", _bias(conv))
        self.register_buffer("taps", lay_out(conv.weight.detach()))
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve with the fastest implementation."""
        return large_depthwise(features, self.weight, self.bias, self.taps, self.autotuner)

    def with_sums(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, and return partial sums of each image's channels, (B, parts, C)."""
        return large_depthwise_with_sums(
            features, self.weight, self.bias, self.taps, self.autotuner
        )


class Excitation(nn.Module):
    """Squeeze-excite of pixels, (B, N, C), or of a weight's rows for all images, (1, N, C).

    Args:
        trained: the layer, on its final device and in its final dtype.
        autotuner: the fastest implementations.
    """

    reduce: Tensor
    reduce_bias: Tensor
    expand: Tensor
    expand_bias: Tensor

    def __init__(self, trained: SqueezeExcite, autotuner: Autotuner) -> None:
        super().__init__()
        self.autotuner = autotuner
        reduce, expand = trained.reduce, trained.expand
        self.register_buffer("reduce", _matrix(reduce))
        self.register_buffer("reduce_bias", _bias(reduce))
        self.register_buffer("expand", _matrix(expand).t().contiguous())
        self.register_buffer("expand_bias", _bias(expand))
        self.train(trained.training)

    def forward(
        self, rows: Tensor, sums: Tensor | None, pixels: int, gate: Tensor | None = None
    ) -> Tensor:
        """Gate the rows; see ``squeeze_excite``."""
        layers = (self.reduce, self.reduce_bias, self.expand, self.expand_bias)
        return squeeze_excite(rows, sums, pixels, layers, self.autotuner, gate)


class PixelProduct(nn.Module):
    """A 1x1 convolution as a matrix product: (B, C, H, W) -> (B, C_out, H, W)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d), "fold the convolution first"
        self.register_buffer("weight", _matrix(conv))
        self.register_buffer("bias", _bias(conv))
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        return pixel_product(features, self.weight, self.bias)


class PositionNorm(nn.Module):
    """A folded position convolution and the layer norm behind it; returns the results of both.

    Args:
        conv: the convolution, on its final device and in its final dtype.
        norm: the layer norm.
        autotuner: the fastest implementations.
    """

    bias: Tensor
    taps: Tensor
    norm_weight: Tensor
    norm_bias: Tensor

    def __init__(self, conv: nn.Conv2d, norm: LayerNorm2d, autotuner: Autotuner) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.weight = _weight(conv)
        self.register_buffer("bias", _bias(conv))
        self.register_buffer("taps", pixel_taps(conv.weight.detach()))
        self.register_buffer("norm_weight", norm.weight.detach())
        self.register_buffer("norm_bias", norm.bias.detach())
        self.train(conv.training)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, and normalise: (B, C, H, W) -> two of them."""
        return position_norm(
            features,
            self.weight,
            self.bias,
            self.taps,
            self.norm_weight,
            self.norm_bias,
            self.autotuner,
        )


class ResponseNorm(nn.Module):
    """The response norm of pixels, (B, N, C), or of a weight's rows for all images, (1, N, C).

    Args:
        trained: the layer, on its final device and in its final dtype.
        autotuner: the fastest implementations.
        folded: whether beta, which is a constant, is part of a bias behind the layer.
    """

    gamma: Tensor
    beta: Tensor

    def __init__(
        self, trained: GlobalResponseNorm, autotuner: Autotuner, *, folded: bool = False
    ) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.register_buffer("gamma", trained.gamma.detach().flatten())
        beta = trained.beta.detach().flatten()
        self.register_buffer("beta", torch.zeros_like(beta) if folded else beta)
        self.train(trained.training)

    def forward(self, rows: Tensor, squares: Tensor | None = None) -> Tensor:
        """Normalise the rows; see ``response_norm``."""
        return response_norm(rows, squares, self.gamma, self.beta, self.autotuner)


class GpuFeedForward(nn.Module):
    """The pointwise half of a block: (B, C, H, W) -> (B, C, H, W).

    Args:
        trained: the folded layer, on its final device and in its final dtype.
        autotuner: the fastest implementations.
    """

    expand: Tensor
    expand_bias: Tensor
    bias: Tensor
    taps: Tensor
    project: Tensor
    project_bias: Tensor

    def __init__(self, trained: FeedForward, autotuner: Autotuner) -> None:
        super().__init__()
        self.autotuner = autotuner
        position = cast("nn.Conv2d", trained.position)
        norm, project = trained.response_norm, _matrix(trained.project)
        self.register_buffer("expand", _matrix(trained.expand))
        self.register_buffer("expand_bias", _bias(trained.expand))
        self.weight = _weight(position)
        self.register_buffer("bias", _bias(position))
        self.register_buffer("taps", pixel_taps(position.weight.detach()))
        self.response_norm = ResponseNorm(norm, autotuner, folded=True)
        self.register_buffer("project", project)
        # The response norm's beta is a constant: folded into the projection's bias.
        bias = project.double() @ norm.beta.detach().double().flatten()
        bias += _bias(trained.project).double()
        self.register_buffer("project_bias", bias.to(project.dtype))
        self.train(trained.training)

    def forward(self, features: Tensor, gated: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Compute the output for features, or for features whose channels are gated."""
        if gated is None:
            raw = pixel_product(features, self.expand)
        else:
            raw = scaled_product(features, self.expand, gated)
        hidden, squares = activated_depthwise(
            raw, self.expand_bias, self.weight, self.bias, self.taps, self.autotuner
        )
        normalised = partial(self.response_norm, squares=squares)
        projected = scaled_product(hidden, self.project, normalised)
        return projected + self.project_bias.view(1, -1, 1, 1)


class GpuBasicBlock(nn.Module):
    """A basic block: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: BasicBlock, autotuner: Autotuner) -> None:
        super().__init__()
        position = cast("nn.Conv2d", block.position)
        self.position = PositionNorm(position, block.norm, autotuner)
        self.large_kernel = LargeDepthwise(cast("nn.Conv2d", block.large_kernel), autotuner)
        self.squeeze_excite = Excitation(block.squeeze_excite, autotuner)
        self.feed_forward = GpuFeedForward(block.feed_forward, autotuner)
        self.identity_scale = block.identity_scale
        self.train(block.training)

    def forward(self, features: Tensor) -> Tensor:
        """Run the block."""
        features, normalised = self.position(features)
        local, sums = self.large_kernel.with_sums(normalised)
        pixels = local.shape[2] * local.shape[3]
        gated = partial(self.squeeze_excite, sums=sums, pixels=pixels)
        return torch.add(self.identity_scale(features), self.feed_forward(local, gated))


class GpuDynamicBlock(nn.Module):
    """A dynamic block; same arguments and result as ``DynamicBlock``."""

    def __init__(self, block: DynamicBlock, autotuner: Autotuner) -> None:
        super().__init__()
        self.first = block.first
        if not block.first:
            self.context_scale = block.context_scale
            self.initial_context_scale = block.initial_context_scale
        self.position_in = PositionNorm(
            cast("nn.Conv2d", block.position_in), block.norm_in, autotuner
        )
        self.fuse_position = block.fuse_position
        self.fuse_project = PixelProduct(block.fuse_project)
        self.fuse_norm = ResponseNorm(block.fuse_norm, autotuner)
        self.gate = PixelProduct(block.gate)
        self.local = LargeDepthwise(cast("nn.Conv2d", block.local), autotuner)
        self.context_mixing = cast("FoldedContextMixing", block.context_mixing)
        self.context_mixing.implementation = autotuner
        for name in ("query", "key"):
            product = PixelProduct(getattr(self.context_mixing, name))
            setattr(self.context_mixing, name, product)
        self.mixed_project = PixelProduct(block.mixed_project)
        self.squeeze_excite = Excitation(block.squeeze_excite, autotuner)
        self.project = PixelProduct(block.project)
        self.identity_scale = block.identity_scale
        self.position_out = PositionNorm(
            cast("nn.Conv2d", block.position_out), block.norm_out, autotuner
        )
        self.feed_forward = GpuFeedForward(block.feed_forward, autotuner)
        self.output_scale = block.output_scale
        self.train(block.training)

    def forward(self, features: Tensor, context: Tensor, initial_context: Tensor) -> Tensor:
        """Refine features and context together."""
        if not self.first:
            context = self.context_scale(context) + self.initial_context_scale(initial_context)
        joint, guided = self.position_in(torch.cat((features, context), dim=1))
        mixed = self.project(self._focus(guided)) + self.identity_scale(joint)
        joint, normalised = self.position_out(mixed)
        return torch.add(self.output_scale(joint), self.feed_forward(normalised))

    def _focus(self, guided: Tensor) -> Tensor:
        """Fuse, mix and gate: (B, C + C_context, H, W) -> (B, C, H, W)."""
        height, width = guided.shape[2:]
        fused = self.fuse_project(F.gelu(self.fuse_position(guided)))
        fused = as_map(self.fuse_norm(as_rows(fused)), height, width)
        mixed = self.mixed_project(self.context_mixing(fused, guided)) + self.local(fused)
        gate = as_rows(self.gate(fused))
        gated = self.squeeze_excite(as_rows(mixed), None, height * width, gate)
        return as_map(gated, height, width)


def _matrix(conv: nn.Conv2d) -> Tensor:
    """Return a 1x1 convolution's weight, (C_out, C)."""
    return conv.weight.detach().flatten(1).contiguous()


def _weight(conv: nn.Conv2d) -> nn.Parameter:
    # A parameter: the compiler mispredicts strides of a plain tensor's (pytorch#184027).
    return nn.Parameter(conv.weight.detach(), requires_grad=False)


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None, "fold the convolution first"
    return conv.bias.detach()
