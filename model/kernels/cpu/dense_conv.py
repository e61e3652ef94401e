"""Dense convolutions on the CPU, with packed weights and a fused activation or sum.

With AVX2 or AVX-512 they are our own kernel, which costs less for one image's small maps; on other
processors, and in bfloat16 where there is a matrix unit, they are oneDNN's.
"""

from __future__ import annotations

import ctypes
import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.kernels.cpu.instruction_sets import processor_features
from model.kernels.cpu.launch import launch
from model.kernels.cpu.library import cpu_kernels_unsupported_reason, native_library
from model.kernels.cpu.ops import lanes
from model.kernels.cpu.packed_conv import Activation, PackedConv, packed_conv_unsupported_reason

ACTIVATIONS = ("none", "gelu", "swish", "relu")
"""In the order of ``native/dense.c``. In bfloat16 GELU is computed to that precision."""

MATRIX_UNIT = "amx_bf16"
"""Feature of processors that multiply matrices of bfloat16, which oneDNN knows to use."""


class _Facts(ctypes.Structure):
    """``dense_t`` of ``native/dense.c``."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "channels",
            "results",
            "kernel_height",
            "kernel_width",
            "stride_height",
            "stride_width",
            "padding_height",
            "padding_width",
            "dilation_height",
            "dilation_width",
            "activation",
            "bfloat16",
        )
    )


def is_native(dtype: torch.dtype) -> bool:
    """Return whether dense convolutions are our own kernel on this processor.

    Raises:
        NativeKernelsError: if our kernels do not run here.
    """
    has_unit = dtype == torch.bfloat16 and _has_matrix_unit()
    return bool(native_library().overlock_prefers_dense()) and not has_unit


@functools.cache  # asked for every convolution
def _has_matrix_unit() -> bool:
    return MATRIX_UNIT in processor_features()


def dense_conv_unsupported_reason(dtype: torch.dtype) -> str | None:
    """Return why convolutions do not run in a dtype here, or None if they do."""
    reason = cpu_kernels_unsupported_reason()
    if reason is not None or is_native(dtype):
        return reason
    return packed_conv_unsupported_reason(dtype)


def dense_conv(
    conv: nn.Conv2d,
    dtype: torch.dtype,
    activation: Activation = "none",
    bias: Tensor | None = None,
) -> DenseConv | PackedConv:
    """Return a convolution in the form that this processor takes; arguments as ``DenseConv``'s."""
    form = DenseConv if is_native(dtype) else PackedConv
    return form(conv, dtype, activation, bias)


class DenseConv(nn.Module):
    """A dense convolution by our own kernel, for inference: (B, C, H, W) -> (B, C', H', W').

    Maps are channels_last; another format is copied. Sums are float32 in both dtypes.

    Args:
        conv: a convolution with one group, padded with zeros; its weight is copied.
        dtype: of the maps, float32 or bfloat16.
        activation: fused activation.
        bias: replaces the convolution's own, (C',).
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        dtype: torch.dtype,
        activation: Activation = "none",
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        assert conv.groups == 1
        assert conv.padding_mode == "zeros"
        assert dtype in {torch.float32, torch.bfloat16}, dtype
        self.dtype, self.activation = dtype, activation
        self.channels, self.results = conv.in_channels, conv.out_channels
        bias = conv.bias if bias is None else bias
        if bias is None:
            bias = torch.zeros(self.results)
        padding = [int(side) for side in conv.padding]
        # No parameters or buffers: packed weights cannot be moved, cast or saved.
        self._bias = F.pad(bias.detach().float(), (0, -self.results % lanes()))
        self._facts = _Facts(
            self.channels,
            self.results,
            *conv.kernel_size,
            *conv.stride,
            *padding,
            *conv.dilation,
            ACTIVATIONS.index(activation),
            dtype == torch.bfloat16,
        )
        facts = ctypes.addressof(self._facts)
        self._weights = torch.empty(native_library().overlock_dense_bytes(facts), dtype=torch.uint8)
        weight = conv.weight.detach().float().contiguous()
        native_library().overlock_pack_dense(facts, weight.data_ptr(), self._weights.data_ptr())
        self._keeps_size = conv.kernel_size == conv.stride == (1, 1) and not any(padding)
        # (kernel, stride, padding, dilation) of the height and of the width.
        self._sides = tuple(zip(conv.kernel_size, conv.stride, padding, conv.dilation, strict=True))

    def forward(self, features: Tensor) -> Tensor:
        """Convolve, then activate."""
        batch, _, height, width = features.shape
        if not self._keeps_size:
            height, width = (
                (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
                for side, (kernel, stride, padding, dilation) in zip(
                    (height, width), self._sides, strict=True
                )
            )
        result = torch.empty((batch, height, width, self.results), dtype=self.dtype)
        self._run(features, result, adds=False)
        return result.permute(0, 3, 1, 2)

    def add_to(self, total: Tensor, features: Tensor) -> Tensor:
        """Add the convolution of ``features`` to ``total``, channels_last, and return it."""
        assert self.activation == "none"
        pixels = total.permute(0, 2, 3, 1)
        assert pixels.is_contiguous()
        self._run(features, pixels, adds=True)
        return total

    def _run(self, features: Tensor, result: Tensor, *, adds: bool) -> None:
        pixels = features.permute(0, 2, 3, 1).contiguous()
        batch, height, width, channels = pixels.shape
        assert channels == self.channels
        assert {pixels.dtype, result.dtype} == {self.dtype}
        launch(
            "overlock_dense",
            ctypes.addressof(self._facts),
            self._weights.data_ptr(),
            self._bias.data_ptr(),
            pixels.data_ptr(),
            result.data_ptr(),
            batch,
            height,
            width,
            result.shape[1],
            result.shape[2],
            adds,
        )
