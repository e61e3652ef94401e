"""Conditions for running a Triton kernel, and the results that it writes to."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

TRITON_INSTALLED = find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def triton_unsupported_reason(*tensors: Tensor) -> str | None:
    """Return why the Triton kernels, which are for inference, cannot take these tensors, or None.

    Args:
        tensors: all inputs of the kernel.
    """
    if not TRITON_INSTALLED:
        return "Triton is not installed"
    for tensor in tensors:
        if tensor.device.type != "cuda":
            return f"a tensor is on the device {tensor.device.type}, not on cuda"
        if tensor.dtype not in _DTYPES:
            return f"it does not support {tensor.dtype}"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "it has no backward pass, and a tensor requires a gradient"
    return None


def empty_result(features: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Do as ``torch.empty_like``, with explicit strides.

    torch.compile ignores the memory format of ``empty_like``: it would allocate contiguous memory
    and launch a copy into the requested format before every kernel.
    """
    strides = torch.empty_like(features, device="meta", memory_format=memory_format).stride()
    return features.new_empty_strided(features.shape, strides)
