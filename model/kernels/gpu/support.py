"""Whether a Triton kernel can take over, and if not, why."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

TRITON_INSTALLED = find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def triton_unsupported_reason(*tensors: Tensor) -> str | None:
    """Say what keeps the Triton kernels, which are for inference, from these tensors; None if not.

    Args:
        tensors: everything the kernel would read.
    """
    if not TRITON_INSTALLED:
        return "Triton is not installed"
    for tensor in tensors:
        if tensor.device.type != "cuda":
            return f"a tensor is on the device {tensor.device.type}, not on cuda"
        if tensor.dtype not in _DTYPES:
            return f"there is none for {tensor.dtype}"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "it has no gradient, and one is wanted"
    return None


def empty_result(features: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return what ``torch.empty_like`` does, by its strides.

    torch.compile does not heed the memory format of ``empty_like``: it would take contiguous memory
    and launch a copy of it, in the right order, before every kernel.
    """
    strides = torch.empty_like(features, device="meta", memory_format=memory_format).stride()
    return features.new_empty_strided(features.shape, strides)
