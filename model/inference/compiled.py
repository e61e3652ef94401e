"""A tensor part under torch.compile, region by region, for a fixed list of shapes.

A region is one of the network's blocks. Blocks of a stage share their code, so the compiler meets
each kind once, where it would take the network as a whole for thirty different things: minutes
instead of seconds. What lies between blocks runs as it is written.

Every shape is compiled before the first request. Two graphs each for every kind of block: one for a
single image, where latency counts, and one with a symbolic number of places for all larger batches;
height and width are constants, since windows and resizings are laid out for them. A shape that is
not on the list runs as it is written: a compilation takes longer than any request waits.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.overlock import Stem
from model.inference.static_module import Tensors

REGIONS = (Stem, BasicBlock, DynamicBlock)
"""Where the time goes that a compiler can save."""

MAX_GRAPHS = 4096
"""PyTorch's own bounds, 8 a function and 256 in all, are for those who compile without a list: here
every kind of block of every model has two graphs for each listed size."""


class CompileError(ValueError):
    """The compiler did not do it; the message says why."""


class CompiledModule:
    """Runs a tensor part, its regions compiled for the shapes that it has been prepared for.

    Args:
        part: what to compile; its regions are wrapped in place, until ``release``.
        backend: PyTorch's name of a compiler.
    """

    def __init__(self, part: nn.Module, *, backend: str = "inductor") -> None:
        torch._dynamo.config.recompile_limit = MAX_GRAPHS
        torch._dynamo.config.accumulated_recompile_limit = MAX_GRAPHS
        self._module = part
        self._regions = [
            (parent, name, child)
            for parent in list(part.modules())
            for name, child in parent.named_children()
            if isinstance(child, REGIONS)
        ]
        for parent, name, child in self._regions:
            setattr(parent, name, _Region(child, backend))

    def prepare(self, pixels: Tensor, sizes: Tensor) -> None:
        """Compile for a batch's shape what has no graph yet that takes it.

        Raises:
            CompileError: if the compiler fails.
            torch.OutOfMemoryError: if the device has no room for the batch.
        """
        try:
            self._module(pixels, sizes)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CompileError(_summary(error)) from error

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch, a region as it is written if no graph takes it; see ``StaticModule``."""
        with torch.compiler.set_stance("eager_on_recompile"):
            outputs: Tensors = self._module(pixels, sizes)
        return outputs

    def as_written(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch without the compiler, whatever has been compiled."""
        with torch.compiler.set_stance("force_eager"):
            outputs: Tensors = self._module(pixels, sizes)
        return outputs

    def release(self) -> None:
        """Give the part back as it was; this object is not to be used any more."""
        for parent, name, child in self._regions:
            setattr(parent, name, child)


class _Region(nn.Module):
    """A block that is compiled when a batch of a new shape comes."""

    def __init__(self, block: nn.Module, backend: str) -> None:
        super().__init__()
        self.block = block
        self._compiled = torch.compile(block, fullgraph=True, dynamic=False, backend=backend)
        self.train(block.training)

    def forward(self, *maps: Tensor) -> Tensor:
        for each in maps:
            if len(each) > 1:
                # Where some part insists on a number, that one shall get a graph of its own instead
                # of an error, hence "maybe". That is why every batch size is prepared.
                torch._dynamo.maybe_mark_dynamic(each, 0)
        mapped: Tensor = self._compiled(*maps)
        return mapped


def compile_unsupported_reason(device: torch.device) -> str | None:
    """Say what keeps the compiler from working for a device; None if nothing is known to."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton is not installed"
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "there is no C++ compiler"
    return None


def _summary(error: Exception) -> str:
    """Return what failed and why: the first two lines; behind them is advice on debugging."""
    return " ".join(str(error).strip().splitlines()[:2]) or type(error).__name__


def on_compilation(call: Callable[[], None]) -> None:
    """Have a function called whenever torch.compile begins to compile, by the thread that waits.

    Args:
        call: quick, and does not raise.
    """
    # Not at the top: the compiler takes a second to import, and only compiled models need it.
    from torch._dynamo.callback import callback_handler

    callback_handler.register_start_callback(lambda _: call())
