"""The Triton kernels' device: a GPU, or a CPU with Triton's interpreter."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def kernel_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the device that runs the kernels."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels cannot be tested")
    if torch.cuda.is_available():
        # The default of Triton 3.9, which warns that 3.10 changes it unless it is set.
        monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
        yield "cuda"
        return
    interpreter = importlib.import_module("triton.runtime.interpreter")
    multiply = interpreter.InterpreterBuilder.create_dot
    bfloat16 = interpreter.tl.bfloat16

    def widened(matrix: Any) -> Any:
        if matrix.dtype.scalar != bfloat16:
            return matrix
        bits = matrix.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), interpreter.tl.float32)

    def multiply_numbers(builder: Any, left: Any, right: Any, *others: Any) -> Any:
        return multiply(builder, widened(left), widened(right), *others)

    # The interpreter keeps bfloat16 as bits, and its tl.dot multiplies them as integers.
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", multiply_numbers)
    _look_through_the_language_once(monkeypatch, interpreter)
    yield "cpu"


def _look_through_the_language_once(monkeypatch: pytest.MonkeyPatch, interpreter: Any) -> None:
    """Speed up calls between a kernel's functions, at each of which Triton replaces its language.

    A launch has replaced it already. Looking through all its names takes a millisecond, most of
    the time of an interpreted kernel; a module of the language's own still needs it once.
    """
    replaced: set[str] = set()

    def call(self: Any, *arguments: Any, **constants: Any) -> Any:
        if self.fn.__module__ not in replaced:
            interpreter._patch_lang(self.fn)
            replaced.add(self.fn.__module__)
        return self.rewrite()(*arguments, **constants)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)
