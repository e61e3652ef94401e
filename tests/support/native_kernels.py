"""The process's native kernels, for tests that load others."""

from __future__ import annotations

from ctypes import CDLL

from model.kernels.cpu import library


def forget() -> None:
    """Leave the process as it was before its first call."""
    library._loaded.clear()
    library.native_library.cache_clear()
    library.cpu_kernels_unsupported_reason.cache_clear()


def use(build: CDLL) -> None:
    """Make a build the one that every later call gets."""
    forget()
    library._loaded.append(build)
