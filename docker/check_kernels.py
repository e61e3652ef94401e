"""Compile Triton's launcher and a kernel of ours in this image; that needs no GPU.

The build of an image for GPUs ends with it: ``check_kernels.py "$NVIDIA_REQUIRE_CUDA"``.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from model.kernels.gpu.toolchain import missing_tool

CAPABILITY = 90  # an H100's and H200's, ten times


def main(required: str) -> None:
    """Compile both.

    Args:
        required: what the image asks of NVIDIA's driver, as in ``cuda>=13.0``.

    Raises:
        SystemExit: if torch is built for another CUDA than that, or something is missing.
    """
    if required != f"cuda>={torch.version.cuda}":
        sys.exit(f"torch is built for CUDA {torch.version.cuda}, and the image asks for {required}")
    if (missing := missing_tool()) is not None:
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as folder:
        # Triton, which is not loaded before, reads them.
        os.environ |= {"TRITON_CACHE_DIR": folder, "TRITON_LIBCUDA_PATH": folder}
        load_launcher(Path(folder))
        from model.kernels.gpu.probe import machine_code

        size_bytes = len(machine_code(CAPABILITY))
    sys.stdout.write(f"Triton's launcher and {size_bytes} bytes for sm_{CAPABILITY}: compiled.\n")


def load_launcher(folder: Path) -> None:
    """Compile and load Triton's launcher, with a library in the place of the driver's."""
    driver = folder / "libcuda.so.1"
    command = ["cc", "-shared", "-x", "c", os.devnull, f"-Wl,-soname,{driver.name}", "-o"]
    subprocess.run([*command, str(driver)], check=True)  # noqa: S603
    ctypes.CDLL(str(driver), mode=ctypes.RTLD_GLOBAL)
    sys.setdlopenflags(os.RTLD_LAZY)  # its functions are missing, and not called
    from triton.backends.nvidia.driver import CudaUtils  # type: ignore[import-untyped,import-not-found,unused-ignore]

    CudaUtils()


if __name__ == "__main__":
    main(*sys.argv[1:])
