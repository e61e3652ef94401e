"""Lowering of a folded network for GPUs.

Large depthwise convolutions use the implementation that was measured to be fastest, and
squeeze-excite uses the channel sums that they compute in the same pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from model.backbone.blocks import BasicBlock
from model.backbone.context_mixing import FoldedContextMixing
from model.backbone.layers import SqueezeExcite
from model.kernels.gpu.autotune import Autotuner
from model.kernels.gpu.depthwise_layout import lay_out
from model.kernels.large_depthwise import channel_sums, large_depthwise, large_depthwise_with_sums
from model.kernels.squeeze_excite import squeeze_excite_gates

SMALLEST_KERNEL = 7
"""Smallest kernel that is replaced; smaller ones stay with cuDNN."""


def lower_for_gpu(network: nn.Module, autotuner: Autotuner) -> None:
    """Lower a network in place; lowering it again changes nothing.

    The new modules run on any device, on PyTorch's operations where our kernels do not run.

    Args:
        network: folded, and already on its final device and in its final dtype, on which the
            layout of the taps depends.
        autotuner: the fastest implementations; it may be filled later.
    """
    for part in list(network.modules()):
        if isinstance(part, FoldedContextMixing):
            part.implementation = autotuner
        for name, replacement in list(_replacements(part, autotuner)):
            setattr(part, name, replacement)


def _replacements(part: nn.Module, autotuner: Autotuner) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and replacements of a module's direct children."""
    if isinstance(part, BasicBlock) and _is_large_depthwise(part.large_kernel):
        conv = LargeDepthwise(cast("nn.Conv2d", part.large_kernel), autotuner)
        yield "large_kernel", ExcitedDepthwise(conv, Excite(part.squeeze_excite))
        yield "squeeze_excite", nn.Identity()
        return
    for name, child in part.named_children():
        if _is_large_depthwise(child):
            yield name, LargeDepthwise(cast("nn.Conv2d", child), autotuner)
        elif isinstance(child, SqueezeExcite):
            yield name, Excite(child)


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
        assert conv.bias is not None, "fold the convolution first"
        self.autotuner = autotuner
        # A parameter: the compiler mispredicts strides of a plain tensor's (pytorch#184027).
        self.weight = nn.Parameter(conv.weight.detach(), requires_grad=False)
        self.register_buffer("bias", conv.bias.detach())
        self.register_buffer("taps", lay_out(conv.weight.detach()))
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve with the fastest implementation."""
        return large_depthwise(features, self.weight, self.bias, self.taps, self.autotuner)

    def with_sums(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, and return each image's channel sums, (B, C)."""
        return large_depthwise_with_sums(
            features, self.weight, self.bias, self.taps, self.autotuner
        )


class Excite(nn.Module):
    """Squeeze-excite: (B, C, H, W) -> (B, C, H, W)."""

    reduce: Tensor
    reduce_bias: Tensor
    expand: Tensor
    expand_bias: Tensor

    def __init__(self, trained: SqueezeExcite) -> None:
        super().__init__()
        reduce, expand = trained.reduce, trained.expand
        assert reduce.bias is not None
        assert expand.bias is not None
        self.register_buffer("reduce", reduce.weight.detach().flatten(1).contiguous())
        self.register_buffer("reduce_bias", reduce.bias.detach())
        self.register_buffer("expand", expand.weight.detach().flatten(1).t().contiguous())
        self.register_buffer("expand_bias", expand.bias.detach())
        self.train(trained.training)

    def forward(self, features: Tensor) -> Tensor:
        """Multiply each channel by a gate computed from all channels' means."""
        return self.with_known_sums(features, channel_sums(features))

    def with_known_sums(self, features: Tensor, sums: Tensor) -> Tensor:
        """Do as ``forward``, given the channel sums, (B, C)."""
        pixels = features.shape[2] * features.shape[3]
        gates = squeeze_excite_gates(
            sums, pixels, self.reduce, self.reduce_bias, self.expand, self.expand_bias
        )
        return features * gates.unsqueeze(2).unsqueeze(3)


class ExcitedDepthwise(nn.Module):
    """A large depthwise convolution and the squeeze-excite behind it, which uses its sums."""

    def __init__(self, conv: LargeDepthwise, excite: Excite) -> None:
        super().__init__()
        self.conv = conv
        self.excite = excite
        self.train(conv.training)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve and gate: (B, C, H, W) -> (B, C, H, W)."""
        convolved, sums = self.conv.with_sums(features)
        return self.excite.with_known_sums(convolved, sums)


def _is_large_depthwise(part: nn.Module) -> bool:
    if not isinstance(part, nn.Conv2d):
        return False
    side = cast("tuple[int, int]", part.kernel_size)[0]
    return (
        side >= SMALLEST_KERNEL
        and side % 2 == 1
        and part.groups == part.in_channels == part.out_channels
        and cast("tuple[int, int]", part.stride) == (1, 1)
        and cast("tuple[int, int]", part.dilation) == (1, 1)
        and part.bias is not None
    )
