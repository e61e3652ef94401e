"""A described H200: PyTorch and Triton write code for it, and nothing runs.

A network's tensors become fake ones on it: their shapes, strides and dtypes are followed through
every operation, their numbers do not exist.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
from torch import nn
from torch._dynamo.device_interface import CudaInterface
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped,import-not-found,unused-ignore]


class DescribedDevice:
    """A driver of Triton that knows the device's kind and has none."""

    def get_current_target(self) -> Any:
        """Return an H200's."""
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """Return the first one."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Return any stream."""
        return device

    def get_active_torch_device(self) -> torch.device:
        """Return the first one."""
        return torch.device("cuda", 0)


H200 = SimpleNamespace(
    name="NVIDIA H200",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=141 * 10**9,
    warp_size=32,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    L2_cache_size=52428800,
    gcnArchName="",
)


NO_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
C10_REGISTER_GUARD_IMPL(CUDA, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>)
"""
"""Switching between CUDA devices, as a CPU's PyTorch lacks it: nothing to do."""


def load_guard() -> None:
    """Let a PyTorch without CUDA follow operations on CUDA's fake tensors.

    Raises:
        subprocess.CalledProcessError: if there is no C++ compiler that can build the guard.
    """
    if torch.backends.cuda.is_built():
        return
    package = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "guard.cpp"), Path(folder, "guard.so")
        source.write_text(NO_GUARD)
        options = ["-std=c++20", "-shared", "-fPIC", f"-I{package}/include", f"-L{package}/lib"]
        subprocess.run(["g++", *options, source, "-o", library, "-lc10"], check=True)
        ctypes.CDLL(str(library))


@contextmanager
def described_device() -> Iterator[None]:
    """Let PyTorch's compiler and Triton write code for an H200 that is not there."""
    properties = mock.Mock(return_value=H200)
    triton.runtime.driver.set_active(DescribedDevice())
    with ExitStack() as stack:
        for owner, name, value in (
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "get_rng_state", torch.get_rng_state),
            (torch.cuda, "set_rng_state", lambda *_: None),
            (torch.cuda, "synchronize", lambda *_: None),
            (torch.cuda, "_exchange_device", lambda *_: 0),
            (torch.cuda, "_maybe_exchange_device", lambda *_: 0),
            (torch.cuda, "device_count", lambda: 1),
            (torch.cuda, "current_device", lambda: 0),
            (torch.cuda, "get_device_properties", properties),
            (torch.cuda, "get_device_capability", lambda *_: (9, 0)),
            (CudaInterface.Worker, "get_device_properties", properties),
            (FakeTensorMode, "avoid_device_init", True),
            (torch.cuda, "_lazy_init", lambda: None),
            (torch._C, "_conv_determine_backend_memory_format", lambda *_: torch.channels_last),
            (CudaInterface, "get_device_properties", properties),
            (CudaInterface, "current_device", lambda: 0),
            (CudaInterface, "is_triton_capable", lambda *_: True),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def describe(network: nn.Module, device: torch.device) -> None:
    """Replace a network's tensors by fake ones on a device, in place."""
    for part in network.modules():
        tables: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        for tensors in tables:
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = torch.empty_strided(
                        tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device
                    )
                    is_parameter = isinstance(tensor, nn.Parameter)
                    tensors[name] = nn.Parameter(fake, False) if is_parameter else fake
