"""A small Triton kernel that shows whether kernels can be compiled and launched at all."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton  # type: ignore[import-untyped,import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-untyped,import-not-found,unused-ignore]
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped,import-not-found,unused-ignore]
from triton.compiler import ASTSource  # type: ignore[import-untyped,import-not-found,unused-ignore]

VALUES = 16


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _increment(values, VALUES: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    place = tl.arange(0, VALUES)
    tl.store(values + place, tl.load(values + place) + 1)


def machine_code(capability: int) -> bytes:
    """Compile the kernel for a GPU that need not be here.

    Args:
        capability: the GPU's compute capability, ten times, as in ``sm_90``.
    """
    signature = {"values": "*fp32", "VALUES": "constexpr"}
    source = ASTSource(_increment, signature, {"VALUES": VALUES})
    code: bytes = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
    return code


def launch(device: torch.device) -> None:
    """Compile and launch the kernel, and look at its result.

    Raises:
        Exception: anything that a compiler, a linker or a driver raises.
    """
    on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with torch.inference_mode(), on_device:
        values = torch.zeros(VALUES, device=device)
        _increment[(1,)](values, VALUES=VALUES)
        if values.sum().item() != VALUES:
            raise RuntimeError("a first kernel computed nothing")
