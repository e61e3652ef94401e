"""Dense convolutions on the CPU with prepacked weights and a fused activation or sum.

``torch.nn.functional.conv2d`` reorders the weight in every call. oneDNN's own operators, which
PyTorch registers for its compiler, take a packed weight, and apply GELU or a sum while the result
is still in registers. The best of the two or three layouts depends on the map's size in ways that
only oneDNN knows, and a wrong one costs a hundred times what it saves. So the weight is packed for
every size when it is first seen, and sizes with the same layout share it.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import OrderedDict
from typing import Literal, cast

import torch
from torch import Tensor, nn

Activation = Literal["none", "gelu", "swish", "relu"]

REMEMBERED_SIZES = 256
"""Map sizes whose layout a convolution remembers; the least recently used is dropped."""

OPERATORS = (
    "_convolution_pointwise",
    "_convolution_pointwise_",
    "_is_mkldnn_bf16_supported",
    "data_ptr",
    "_nbytes",
)
_ALGORITHM = {"gelu": "none"}  # the exact form, not the one with tanh


def packed_conv_unsupported_reason(dtype: torch.dtype) -> str | None:
    """Return why convolutions cannot be packed in a dtype here, or None if they can."""
    if not torch.backends.mkldnn.is_available():
        return "PyTorch was built without oneDNN"
    for name in OPERATORS:
        if not hasattr(torch.ops.mkldnn, name):
            return f"this PyTorch has no mkldnn::{name}"
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "oneDNN packs no bfloat16 convolutions for this processor"
    return None


class PackedConv(nn.Module):
    """A dense convolution for inference on the CPU: (B, C, H, W) -> (B, C', H', W').

    Args:
        conv: a convolution with one group; its weight is copied.
        dtype: of the maps.
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
        self.stride, self.dilation = list(conv.stride), list(conv.dilation)
        self.padding = [int(side) for side in conv.padding]
        self.activation = activation
        self.dtype = dtype
        bias = conv.bias if bias is None else bias
        # No parameters or buffers: packed weights cannot be moved, cast or saved.
        self.bias = None if bias is None else bias.detach().to(dtype)
        self._plain = conv.weight.detach().to(dtype).contiguous().to_mkldnn()
        self._layouts: dict[bytes, Tensor] = {}
        self._layout_for: OrderedDict[torch.Size, Tensor] = OrderedDict()

    def _packed_for(self, features: Tensor) -> Tensor:
        """Return the weight packed for maps of this shape."""
        shape = features.shape
        if shape in self._layout_for:
            self._layout_for.move_to_end(shape)
            return self._layout_for[shape]
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]  # stale stub
            self._plain, self.padding, self.stride, self.dilation, 1, list(shape)
        )
        layout = self._layouts.setdefault(_digest(packed), packed)
        self._layout_for[shape] = layout
        if len(self._layout_for) > REMEMBERED_SIZES:
            self._layout_for.popitem(last=False)
        return layout

    def forward(self, features: Tensor) -> Tensor:
        """Convolve, then activate."""
        return cast(
            "Tensor",
            torch.ops.mkldnn._convolution_pointwise(
                features,
                self._packed_for(features),
                self.bias,
                self.padding,
                self.stride,
                self.dilation,
                1,
                self.activation,
                [],
                _ALGORITHM.get(self.activation, ""),
            ),
        )

    def add_to(self, total: Tensor, features: Tensor) -> Tensor:
        """Add the convolution of ``features`` to ``total`` in place, and return it."""
        assert self.activation == "none"
        return cast(
            "Tensor",
            torch.ops.mkldnn._convolution_pointwise_(
                total,
                features,
                self._packed_for(features),
                self.bias,
                self.padding,
                self.stride,
                self.dilation,
                1,
                "add",
                1.0,
                None,
                [],
                None,
            ),
        )


def _digest(packed: Tensor) -> bytes:
    """Identify a weight's layout by its bytes: oneDNN does not expose it."""
    address = int(torch.ops.mkldnn.data_ptr(packed))
    size_bytes = int(torch.ops.mkldnn._nbytes(packed))
    return hashlib.sha256((ctypes.c_char * size_bytes).from_address(address)).digest()
