"""Faster layers for training OverLoCK on a CPU, mathematically equal to the plain ones.

Two parts are slow there: the plain reference of ContMix, which writes out every weight tensor,
and the weight gradient of large depthwise kernels, which takes longer than all the rest of the
backward pass. Parameters, their names, and the results do not change, up to rounding.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.backbone.context_mixing import ContextMixing
from model.kernels.context_mixing import context_mixing, position_bias_windows

_LARGE_KERNEL = 7  # smaller ones have a fast gradient of their own


def speed_up_training(network: nn.Module) -> None:
    """Give the slow parts of a network in its trained, merged form a faster way to compute.

    Args:
        network: changed in place; its state dict stays as it is. Its maps should be in the
            channels_last memory format, or the large kernels stay slow.
    """
    for part in network.modules():
        if type(part) is ContextMixing:
            part.__class__ = _FastContextMixing
        elif (
            isinstance(part, nn.Conv2d) and part.groups > 1 and part.kernel_size[0] >= _LARGE_KERNEL
        ):
            part.__class__ = _FastDepthwise


class _FastContextMixing(ContextMixing):
    """ContMix through the inference kernel, with keys and biases made from live parameters."""

    def mix(self, values: Tensor, features: Tensor, context: Tensor) -> Tensor:
        keys = self.key(context).flatten(2)  # (B, Q, S, S) -> (B, Q, S*S)
        keys = keys.unflatten(1, (self.small_position_bias.shape[0], -1))  # (B, G, D, S*S)
        virtual_keys = self.mix_weights.weight.flatten(1) @ keys.transpose(2, 3)
        small_taps = ((self.small_position_bias.shape[-1] + 1) // 2) ** 2
        mix_bias = cast("Tensor", self.mix_weights.bias)
        return context_mixing(
            values.contiguous(),
            (self.query(features) * self.query_scale).contiguous(),
            virtual_keys,
            position_bias_windows(self.small_position_bias, mix_bias[:small_taps]),
            position_bias_windows(self.large_position_bias, mix_bias[small_taps:]),
        )


class _FastDepthwise(nn.Conv2d):
    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = _DepthwiseConvolution.apply(  # type: ignore[no-untyped-call]
            features, self.weight
        )
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1)


class _DepthwiseConvolution(torch.autograd.Function):
    """A size-keeping depthwise convolution whose weight gradient is made by Fourier transform."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return F.conv2d(features, weight, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        features, weight = ctx.saved_tensors
        (gradient,) = gradients
        padding = weight.shape[-1] // 2
        # Padding is symmetric and the kernel odd: the input's gradient is a flipped convolution.
        features_gradient = F.conv2d(
            gradient, weight.flip(2, 3), padding=padding, groups=len(weight)
        )
        return features_gradient, _correlate(features, gradient, padding)


def _correlate(features: Tensor, gradient: Tensor, reach: int) -> Tensor:
    """Sum ``gradient[p] * features[p + lag]`` over batch and pixels, for lags up to ``reach``.

    Args:
        features: (B, C, H, W).
        gradient: (B, C, H, W).
        reach: largest lag on each axis, pixels.

    Returns:
        (C, 1, 2 * reach + 1, 2 * reach + 1).
    """
    # Room for the largest lag, so that nothing wraps around; sizes of 8n transform quickly.
    size = [-(-(side + reach) // 8) * 8 for side in features.shape[2:]]
    spectrum = torch.fft.rfft2(features.contiguous(), s=size)
    spectrum *= torch.fft.rfft2(gradient.contiguous(), s=size).conj()
    lags = torch.fft.irfft2(spectrum.sum(0), s=size)
    lags = lags.roll((reach, reach), dims=(1, 2))
    sums: Tensor = lags[:, None, : 2 * reach + 1, : 2 * reach + 1]
    return sums
