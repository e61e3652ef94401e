"""Conditions for running a Triton kernel, and the results that it writes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

from model.kernels.gpu.failures import is_out_of_memory, raise_if_device_lost, summary
from model.kernels.gpu.toolchain import missing_tool

TRITON_INSTALLED = find_spec("triton") is not None
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_turned_off: list[str] = []
"""The reason for which no Triton kernel runs in this process; empty while they do."""


_launched: set[torch.device] = set()
"""Devices on which a kernel was launched: what has worked is not tried again."""


def launch_unsupported_reason(device: torch.device) -> str | None:
    """Return why no Triton kernel can be launched on a CUDA device, or None if one was.

    Launching one shows what no list of conditions does, such as a folder that code may be loaded
    from. torch.compile needs the same on a GPU.

    Raises:
        DeviceLostError: if the device does not work.
        torch.OutOfMemoryError: if its memory is full, which says nothing about kernels.
    """
    if not TRITON_INSTALLED:
        return "Triton is not installed"
    if device in _launched:
        return None
    if (missing := missing_tool()) is not None:
        return missing
    try:
        # Not at the top: importing Triton takes a second, and only a GPU needs it.
        from model.kernels.gpu.probe import launch

        launch(device)
    except Exception as error:
        # Compilers, linkers and drivers raise anything.
        raise_if_device_lost(error, device)
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(summary(error)) from error
        return f"a first kernel failed: {summary(error)}"
    _launched.add(device)
    return None


def on_kernel_compilation(callback: Callable[[], None]) -> None:
    """Register the callback for every start of a compilation of a kernel that was not compiled yet.

    Kernels in graphs of torch.compile are its own matter.

    Args:
        callback: quick, and does not raise.
    """
    import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]

    def hook(*_: object, **__: object) -> None:
        callback()

    triton.knobs.runtime.jit_cache_hook = hook


def turn_off_triton(reason: str) -> None:
    """Run no Triton kernel in this process any more: what fails on a device fails for every model.

    The first reason stays. Graphs that were compiled before are not used again, since the compiler
    guards on this; recordings keep the kernels that they hold.
    """
    if not _turned_off:
        _turned_off.append(reason)


def turned_off_reason() -> str | None:
    """Return why no Triton kernel runs in this process any more, or None if they do."""
    return _turned_off[0] if _turned_off else None


@contextmanager
def without_triton(reason: str) -> Iterator[None]:
    """Run no Triton kernel inside."""
    before = [*_turned_off]
    _turned_off[:] = [reason]
    try:
        yield
    finally:
        _turned_off[:] = before


def triton_unsupported_reason(*tensors: Tensor) -> str | None:
    """Return why the Triton kernels, which are for inference, cannot take these tensors, or None.

    Args:
        tensors: all inputs of the kernel.
    """
    if not TRITON_INSTALLED:
        return "Triton is not installed"
    if _turned_off:
        return _turned_off[0]
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
