"""The C compiler and the headers that Triton needs on a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path


def missing_tool() -> str | None:
    """Return what is missing to compile Triton's launcher of kernels, or None.

    Triton does so once on a machine, and takes the compiler and the headers that are sought here.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return "there is no C compiler, which Triton needs (gcc, clang, or the one that CC names)"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # Debian's
    headers = sysconfig.get_paths(scheme)["include"]
    if not (Path(headers) / "Python.h").exists():
        return f"there are no C headers of Python (Python.h in {headers}), which Triton needs"
    command = [*(compiler, "-shared", "-fPIC", "-x", "c", "-", "-I", headers), "-o", os.devnull]
    try:
        subprocess.run(  # noqa: S603
            command, input="#include <Python.h>", check=True, capture_output=True, text=True
        )
    except OSError as error:
        return f"the C compiler, which Triton needs, cannot be run: {error}"
    except subprocess.CalledProcessError as error:
        return (
            f"{compiler} compiles nothing for Python, as Triton needs: {_error_line(error.stderr)}"
        )
    return None


def _error_line(words: str) -> str:
    """Return the line of a compiler's words that says what is wrong."""
    lines = words.strip().splitlines() or ["it says nothing"]
    return next((line for line in lines if "error" in line), lines[-1])
