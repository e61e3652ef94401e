"""A tensor part under torch.compile, for a fixed list of shapes.

Every shape is compiled before the first request. Two graphs each: one for a single image, where
latency counts, and one with a symbolic number of places for all larger batches; height and width
are constants, since windows and resizings are laid out for them. A shape that is not on the list
runs as it is written: a compilation takes longer than any request waits.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from model.tensor_part import Tensors

MAX_GRAPHS = 64
"""PyTorch's own bound, 8 a function, is for those who compile without a list."""


class CompileError(ValueError):
    """The compiler did not do it; the message says why."""


class CompiledPart:
    """Runs a tensor part, compiled for the shapes that it has been prepared for.

    Args:
        part: what to compile.
        backend: PyTorch's name of a compiler.
    """

    def __init__(self, part: nn.Module, *, backend: str = "inductor") -> None:
        self._compiled = torch.compile(part, fullgraph=True, dynamic=False, backend=backend)

    def prepare(self, pixels: Tensor, sizes: Tensor) -> None:
        """Compile for a batch's shape, unless a graph that is there takes it.

        Raises:
            CompileError: if the compiler fails.
            torch.OutOfMemoryError: if the device has no room for the batch.
        """
        try:
            with torch._dynamo.config.patch(recompile_limit=MAX_GRAPHS):
                self._compiled(*_with_symbolic_places(pixels, sizes))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CompileError(_summary(error)) from error

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch, as it is written if no graph takes it; see ``TensorPart.forward``."""
        with torch.compiler.set_stance("eager_on_recompile"):
            outputs: Tensors = self._compiled(*_with_symbolic_places(pixels, sizes))
        return outputs


def compile_obstacle(device: torch.device) -> str | None:
    """Say what keeps the compiler from working for a device; None if nothing is known to."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton is not installed"
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "there is no C++ compiler"
    return None


def _with_symbolic_places(pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    if len(pixels) > 1:
        # "maybe": where some part insists on a number, that one gets a graph of its own, instead
        # of an error. That is why every batch size is prepared.
        torch._dynamo.maybe_mark_dynamic(pixels, 0)
        torch._dynamo.maybe_mark_dynamic(sizes, 0)
    return pixels, sizes


def _summary(error: Exception) -> str:
    """Return what failed and why: the first two lines; behind them is advice on debugging."""
    return " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__
