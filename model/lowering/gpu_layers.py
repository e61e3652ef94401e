"""The layers of GPU blocks: folded ones, on our Triton kernels and the matrix library.

Built from a network on its final device and in its final dtype, on which the layout of taps
depends. Without our kernels they run on PyTorch's operators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from model.backbone.layers import (
    FeedForward,
    GlobalResponseNorm,
    LayerNorm2d,
    SqueezeExcite,
    bias_of,
)
from model.kernels.activated_depthwise import activated_depthwise, depthwise_gelu, pixel_taps
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.large_depthwise import large_depthwise, large_depthwise_with_sums
from model.kernels.position_norm import position_norm
from model.kernels.response_norm import response_norm
from model.kernels.scaled_product import scaled_product
from model.kernels.squeeze_excite import squeeze_excite
from model.lowering.pixel_product import folded_bias, matrix_of, pixel_product


class LargeDepthwise(nn.Module):
    """A folded large depthwise convolution: (B, C, H, W) -> (B, C, H, W).

    Args:
        conv: source of weight and bias, on its final device and in its final dtype.
        autotuner: the fastest implementations.
        added: another bias of the same map, (C,) float64.
    """

    bias: Tensor
    taps: Tensor

    def __init__(self, conv: nn.Conv2d, autotuner: Autotuner, added: Tensor | None = None) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.weight = _weight(conv)
        bias = bias_of(conv) if added is None else bias_of(conv) + added
        self.register_buffer("bias", bias.to(conv.weight.dtype))
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
        self.register_buffer("reduce", matrix_of(reduce))
        self.register_buffer("reduce_bias", folded_bias(reduce))
        self.register_buffer("expand", matrix_of(expand).t().contiguous())
        self.register_buffer("expand_bias", folded_bias(expand))
        self.train(trained.training)

    def forward(
        self, rows: Tensor, sums: Tensor | None, pixels: int, gate: Tensor | None = None
    ) -> Tensor:
        """Gate the rows; see ``squeeze_excite``."""
        layers = (self.reduce, self.reduce_bias, self.expand, self.expand_bias)
        return squeeze_excite(rows, sums, pixels, layers, self.autotuner, gate)


class DepthwiseGelu(nn.Module):
    """A folded 3x3 depthwise convolution and the GELU behind it: (B, C, H, W) -> (B, C, H, W).

    Args:
        conv: the convolution.
        autotuner: the fastest implementations.
    """

    bias: Tensor
    taps: Tensor

    def __init__(self, conv: nn.Conv2d, autotuner: Autotuner) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.weight = _weight(conv)
        self.register_buffer("bias", folded_bias(conv))
        self.register_buffer("taps", pixel_taps(conv.weight.detach()))
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve and activate."""
        return depthwise_gelu(features, self.weight, self.bias, self.taps, self.autotuner)


class PositionNorm(nn.Module):
    """A folded position convolution, the layer norm behind it, and a scale beside it.

    Args:
        conv: the convolution.
        norm: the layer norm.
        scale: of the convolved map, (C,) float64.
        shift: added behind the scale, (C,) float64.
        autotuner: the fastest implementations.
        context_scale: of a context that is added behind the scale, (C_context,) float64.
    """

    bias: Tensor
    taps: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    scale: Tensor
    shift: Tensor
    context_scale: Tensor | None

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: LayerNorm2d,
        scale: Tensor,
        shift: Tensor,
        autotuner: Autotuner,
        context_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.autotuner = autotuner
        self.weight = _weight(conv)
        self.register_buffer("bias", folded_bias(conv))
        self.register_buffer("taps", pixel_taps(conv.weight.detach()))
        self.register_buffer("norm_weight", norm.weight.detach())
        self.register_buffer("norm_bias", norm.bias.detach())
        self.register_buffer("scale", scale.to(conv.weight.dtype))
        self.register_buffer("shift", shift.to(conv.weight.dtype))
        if context_scale is not None:
            context_scale = context_scale.to(conv.weight.dtype)
        self.register_buffer("context_scale", context_scale)
        self.train(conv.training)

    def forward(self, features: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve; return the scaled map and the normalised one, both (B, C, H, W)."""
        return position_norm(
            features,
            self.weight,
            self.bias,
            self.taps,
            self.norm_weight,
            self.norm_bias,
            self.scale,
            self.shift,
            self.autotuner,
            context,
            self.context_scale,
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
    """The pointwise half of a block, added to a map: (B, C, H, W) -> (B, C, H, W).

    The constant that it adds to every pixel, of ``constant_of``, is left to that map.

    Args:
        trained: the folded layer.
        autotuner: the fastest implementations.
        factors: of the result, (C,) float64.
    """

    expand: Tensor
    expand_bias: Tensor
    bias: Tensor
    taps: Tensor
    project: Tensor

    def __init__(
        self, trained: FeedForward, autotuner: Autotuner, factors: Tensor | None = None
    ) -> None:
        super().__init__()
        self.autotuner = autotuner
        position = cast("nn.Conv2d", trained.position)
        self.register_buffer("expand", matrix_of(trained.expand))
        self.register_buffer("expand_bias", folded_bias(trained.expand))
        self.weight = _weight(position)
        self.register_buffer("bias", folded_bias(position))
        self.register_buffer("taps", pixel_taps(position.weight.detach()))
        self.response_norm = ResponseNorm(trained.response_norm, autotuner, folded=True)
        project = matrix_of(trained.project)
        if factors is not None:
            project = (project.double() * factors[:, None]).to(project.dtype)
        self.register_buffer("project", project)
        self.train(trained.training)

    @staticmethod
    def constant_of(trained: FeedForward) -> Tensor:
        """Return what the layer adds to every pixel: its bias and beta, without factors."""
        beta = trained.response_norm.beta.detach().double().flatten()
        return matrix_of(trained.project).double() @ beta + bias_of(trained.project)

    def forward(
        self,
        features: Tensor,
        residual: Tensor,
        gated: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Add the output for features, or for features whose channels are gated, in place."""
        if gated is None:
            raw = pixel_product(features, self.expand)
        else:
            raw = scaled_product(features, self.expand, gated)
        hidden, squares = activated_depthwise(
            raw, self.expand_bias, self.weight, self.bias, self.taps, self.autotuner
        )
        normalised = partial(self.response_norm, squares=squares)
        return scaled_product(hidden, self.project, normalised, residual)


def _weight(conv: nn.Conv2d) -> nn.Parameter:
    # A parameter: the compiler mispredicts strides of a plain tensor's (pytorch#184027).
    return nn.Parameter(conv.weight.detach(), requires_grad=False)
