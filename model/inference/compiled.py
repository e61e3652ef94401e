"""A static module under torch.compile, region by region, for a fixed list of shapes.

A region is one of the network's blocks, or a few layers before, between or behind them. Blocks of
a stage share their code, so each kind is compiled once and reused: seconds, where compiling the
network as a whole takes minutes. The convolutions between blocks run eagerly.

Every shape is compiled before the first request. Each kind of block has two graphs per input size:
one for a single image, where latency counts, and one with a symbolic batch size for all larger
batches; height and width are constants, since windows and resizings depend on them. A shape that is
not on the list runs eagerly: a compilation takes longer than any request waits.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.backbone.blocks import BasicBlock, DynamicBlock
from model.backbone.overlock import Stem
from model.heads.classifier import ActivatedMean
from model.inference.static_module import FinitenessCheck, Normalisation, Tensors
from model.kernels.gpu.failures import failing_as
from model.kernels.gpu.support import launch_unsupported_reason
from model.lowering.gpu_blocks import FocusEntry, GpuBasicBlock, GpuDynamicBlock

REGIONS = (
    Normalisation,
    Stem,
    BasicBlock,
    DynamicBlock,
    GpuBasicBlock,
    FocusEntry,
    GpuDynamicBlock,
    ActivatedMean,
    FinitenessCheck,
)
"""What is compiled: the blocks, and what would be many launches before, between and behind them."""

MAX_GRAPHS = 4096
"""PyTorch's limits, 8 a function and 256 in all, guard against unbounded recompilation: here every
kind of block of every model has two graphs for each listed size."""


class CompileError(ValueError):
    """Compilation failed; the message says why."""


class CompiledModule:
    """Runs a static module with its regions compiled for the prepared shapes.

    Args:
        module: its regions are wrapped in place, until ``release``, but for those that are wrapped
            already: another pass of the same network may share them.
        backend: name of a torch.compile backend.
    """

    def __init__(self, module: nn.Module, *, backend: str = "inductor") -> None:
        torch._dynamo.config.recompile_limit = MAX_GRAPHS
        torch._dynamo.config.accumulated_recompile_limit = MAX_GRAPHS
        self._module = module
        self._regions = [
            (parent, name, child)
            for parent in list(module.modules())
            for name, child in parent.named_children()
            if isinstance(child, REGIONS) and not isinstance(parent, _Region)
        ]
        for parent, name, child in self._regions:
            setattr(parent, name, _Region(child, backend))

    def prepare(self, pixels: Tensor, sizes: Tensor) -> None:
        """Compile the regions that have no graph yet for a batch's shape.

        Raises:
            CompileError: if the compiler fails.
            torch.OutOfMemoryError: if the device has no room for the batch.
        """
        with failing_as(CompileError):
            self._module(pixels, sizes)

    def __call__(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch; regions without a graph for its shape run eagerly. See ``StaticModule``."""
        with torch.compiler.set_stance("eager_on_recompile"):
            outputs: Tensors = self._module(pixels, sizes)
        return outputs

    def run_eagerly(self, pixels: Tensor, sizes: Tensor) -> Tensors:
        """Run a batch without any compiled graph."""
        with torch.compiler.set_stance("force_eager"):
            outputs: Tensors = self._module(pixels, sizes)
        return outputs

    def release(self) -> None:
        """Unwrap the regions; do not use this object afterwards."""
        for parent, name, child in self._regions:
            setattr(parent, name, child)


class _Region(nn.Module):
    """A block, compiled when a batch of a new shape comes."""

    def __init__(self, block: nn.Module, backend: str) -> None:
        super().__init__()
        self.block = block
        self._compiled = torch.compile(block, fullgraph=True, dynamic=False, backend=backend)
        self.train(block.training)

    def forward(self, *maps: Tensor) -> Tensor:
        for features in maps:
            if len(features) > 1:
                # "maybe": an operation that needs a constant batch size gets a graph of its own
                # instead of an error. That is why every batch size is prepared.
                torch._dynamo.maybe_mark_dynamic(features, 0)
        output: Tensor = self._compiled(*maps)
        return output


def compile_unsupported_reason(device: torch.device) -> str | None:
    """Return a known reason why the compiler does not work for a device, or None."""
    if device.type == "cuda":
        return launch_unsupported_reason(device)
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "there is no C++ compiler"
    return None


def on_compilation(callback: Callable[[], None]) -> None:
    """Register a callback for every start of a compilation; the compiling thread calls it.

    Args:
        callback: quick, and does not raise.
    """
    # Not at the top: importing the compiler takes a second, and only compiled models need it.
    from torch._dynamo.callback import callback_handler

    callback_handler.register_start_callback(lambda _: callback())
