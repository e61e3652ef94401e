"""What is compiled: two graphs a shape, without a break, and nothing ever under traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.testing import assert_close

from model.compiled import CompiledPart, CompileError, compile_obstacle
from model.config import BACKBONES
from model.fuse import fold
from model.heads.mask_rcnn import MaskRCNN
from model.heads.upernet import UPerNet
from model.tensor_part import TensorPart
from model.zoo import create_model
from unit.model.filled import filled

CPU = torch.device("cpu")
BATCHES = (4, 2, 1)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "classifier": lambda: create_model("demo", weights="random"),
    "segmenter": lambda: fold(filled(UPerNet(BACKBONES["nano"], 8, 5), torch.float32)),
    "detector": lambda: fold(filled(MaskRCNN(BACKBONES["nano"], 3, cascade=False), torch.float32)),
}
SHAPES = {
    "classifier": ((224, 224),),
    "segmenter": ((64, 96), (96, 64)),
    "detector": ((96, 64),),
}


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


@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_all_batches_of_a_shape_share_two_graphs_and_no_other_is_ever_compiled(kind: str) -> None:
    network = NETWORKS[kind]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    part = TensorPart(network, CPU, torch.float32)
    # What breaks a graph or asks for a new one is the tracer's matter, not the code generator's.
    compiled = CompiledPart(part, backend="eager")
    for size in SHAPES[kind]:
        for count in BATCHES:
            compiled.prepare(*batch_of(count, size))
    graphs = 2 * len(SHAPES[kind])
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]

    for size in (*SHAPES[kind], (64, 64)):  # the last one is on no list
        for count in (3, *BATCHES):
            batch = batch_of(count, size)
            for got, want in zip(compiled(*batch), part(*batch), strict=True):
                assert_close(got, want)
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]


class Broken(nn.Module):
    """Cannot be traced as one graph."""

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor]:
        torch._dynamo.graph_break()
        return (pixels + sizes.sum(),)


def test_a_part_that_is_no_single_graph_is_refused() -> None:
    with pytest.raises(CompileError, match="graph_break"):
        CompiledPart(Broken(), backend="eager").prepare(*batch_of(1, (8, 8)))


def test_a_gpu_without_triton_and_a_cpu_without_a_compiler_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert compile_obstacle(CPU) is None
    monkeypatch.setenv("PATH", "")
    assert compile_obstacle(CPU) == "there is no C++ compiler"
    monkeypatch.setattr("model.compiled.find_spec", lambda _: None)
    assert compile_obstacle(torch.device("cuda")) == "Triton is not installed"
