"""Compilation: two graphs a kind of block and size, and nothing ever under traffic."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.callback import callback_handler
from torch._dynamo.utils import counters
from torch.testing import assert_close

from model.backbone.overlock import Stem
from model.config import BACKBONES
from model.inference.compiled import (
    CompiledModule,
    CompileError,
    compile_unsupported_reason,
    on_compilation,
)
from model.inference.static_module import StaticModule
from model.kernels.gpu.autotune import Autotuner
from model.lowering.gpu import lower_for_gpu
from model.zoo import create_model

CPU = torch.device("cpu")
BATCHES = (4, 2, 1)
KINDS = {"as folded": 10, "for a GPU": 11}
"""Normalisation; stem; stages 1, 2, 3 and the overview; of the focus net the first block, stage 3
and stage 4, or for a GPU each stage's entry and its blocks; the head. The check of a classifier's
output sees the same shape at all sizes."""

SIZES = ((224, 224), (64, 96))
"""The last stages' maps are as large as their windows, and smaller."""


@pytest.fixture(autouse=True)
def _forgetful_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def batch_of(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)
    return pixels, torch.tensor([size] * count)


@pytest.mark.timeout(400)  # half a minute by itself
@pytest.mark.compiler
@pytest.mark.parametrize("form", KINDS)
@torch.inference_mode()
def test_all_batches_of_a_size_share_two_graphs_and_no_other_is_ever_compiled(form: str) -> None:
    # Segmenters and detectors have the same blocks, and heads that are not compiled.
    network = create_model("demo", weights="random")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if form == "for a GPU":
        lower_for_gpu(network, Autotuner())
    part = StaticModule(network, CPU, torch.float32)
    eager = copy.deepcopy(part)
    # What breaks a graph or asks for a new one is the tracer's matter, not the code generator's.
    compiled = CompiledModule(part, backend="eager")
    for size in SIZES:
        for count in BATCHES:
            compiled.prepare(*batch_of(count, size))
    graphs = 2 * (KINDS[form] * len(SIZES) + 1)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]

    for size in (*SIZES, (96, 64)):  # the last one is on no list
        for count in (3, *BATCHES):
            batch = batch_of(count, size)
            for got, want in zip(compiled(*batch), eager(*batch), strict=True):
                assert_close(got, want)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


class BrokenStem(Stem):
    """Cannot be traced as one graph."""

    def forward(self, images: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().forward(images)


@torch.inference_mode()
def test_an_eager_run_compiles_nothing() -> None:
    part = StaticModule(create_model("demo", weights="random"), CPU, torch.float32)
    batch = batch_of(2, (64, 64))
    want = part(*batch)
    compiled = CompiledModule(part, backend="eager")
    assert_close(compiled.run_eagerly(*batch), want)
    assert not counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("error", [AssertionError("strides"), OSError("noexec"), KeyError("x")])
@torch.inference_mode()
def test_whatever_a_compiler_raises_is_a_failure_to_compile(error: Exception) -> None:
    def fail(*_: object) -> Tensor:
        raise error

    part = StaticModule(create_model("demo", weights="random"), CPU, torch.float32)
    compiled = CompiledModule(part, backend="eager")
    part.forward = fail  # type: ignore[assignment]
    with pytest.raises(CompileError, match=str(error)):
        compiled.prepare(*batch_of(1, (64, 64)))


@torch.inference_mode()
def test_a_block_that_is_no_single_graph_is_refused_and_runs_eagerly_when_released() -> None:
    network = create_model("demo", weights="random")
    module = StaticModule(network, CPU, torch.float32)
    want = module(*batch_of(1, (64, 64)))
    stem = BrokenStem(BACKBONES["nano"].channels[0]).eval()
    stem.layers = network.backbone.stem.layers
    network.backbone.stem = stem
    compiled = CompiledModule(module, backend="eager")
    with pytest.raises(CompileError, match="graph_break"):
        compiled.prepare(*batch_of(1, (64, 64)))
    compiled.release()
    assert network.backbone.stem is stem
    assert_close(module(*batch_of(1, (64, 64))), want)


def test_a_gpu_without_triton_and_a_cpu_without_a_compiler_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert compile_unsupported_reason(CPU) is None
    monkeypatch.setenv("PATH", "")
    assert compile_unsupported_reason(CPU) == "there is no C++ compiler"
    monkeypatch.setattr(
        "model.inference.compiled.launch_unsupported_reason", lambda _: "Triton is not installed"
    )
    assert compile_unsupported_reason(torch.device("cuda")) == "Triton is not installed"


def test_each_compilation_is_told_and_no_run_of_what_is_compiled() -> None:
    told: list[int] = []
    double = torch.compile(lambda pixels: pixels * 2, backend="eager", dynamic=False)
    double(torch.ones(2))
    on_compilation(lambda: told.append(1))
    try:
        double(torch.ones(2))
        assert told == []
        double(torch.ones(3))
        assert told == [1]
        with torch.compiler.set_stance("eager_on_recompile"):
            double(torch.ones(4))
        assert told == [1]
    finally:
        callback_handler.clear()
