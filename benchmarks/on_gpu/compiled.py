"""With torch.compile in front of the CUDA graph: the whole network at once, or block by block.

Blocks of one stage share their code, so block by block is compiled several times faster; what lies
between blocks is then not fused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from benchmarks.on_gpu.bench import Bench, Row, relative_error, stopwatch
from benchmarks.on_gpu.classifiers import forward
from benchmarks.on_gpu.networks import images_of, in_form, trained, with_measured_kernels
from model.backbone.blocks import BasicBlock, DynamicBlock

How = Literal["blocks", "whole"]

CASES: tuple[tuple[str, int, How], ...] = (
    ("overlock_t", 64, "blocks"),
    ("overlock_t", 1, "blocks"),
    ("overlock_t", 64, "whole"),
    ("overlock_t", 1, "whole"),
    ("overlock_t", 256, "blocks"),
    ("overlock_b", 64, "blocks"),
    ("overlock_xt", 64, "blocks"),
    ("overlock_s", 64, "blocks"),
)
QUICK_CASES: tuple[tuple[str, int, How], ...] = (("nano", 1, "blocks"), ("nano", 2, "whole"))

KINDS_OF_BLOCKS = 64
"""More than a network has: every kind and shape is compiled once for itself."""


def rows(bench: Bench) -> Iterator[Row]:
    for name, batch, how in QUICK_CASES if bench.quick else CASES:
        size = (64, 64) if bench.quick else (224, 224)
        images = images_of(bench, "fused", batch, size, bench.fast_dtype)
        network = in_form(trained(name), "fused", bench.fast_dtype, bench.device)
        network, _ = with_measured_kernels(bench, network, images)
        yield _row(bench, name, network, images, how)


def compile_network(network: nn.Module, how: How, backend: str) -> nn.Module:
    """Have a network compiled when it runs first, for the shapes it then sees, in place."""
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = KINDS_OF_BLOCKS
    for part in network.modules() if how == "blocks" else [network]:
        if how == "whole" or isinstance(part, (BasicBlock, DynamicBlock)):
            part.compile(fullgraph=True, dynamic=False, backend=backend)
    return network


def _row(bench: Bench, name: str, network: nn.Module, images: Tensor, how: How) -> Row:
    with torch.inference_mode():
        want: Tensor = network(images).clone()
    counters.clear()
    compile_network(network, how, bench.compiler)
    run = forward(network, images, "fused")
    took = stopwatch()
    error = relative_error(run(), want)
    run()
    compile_seconds = took()
    graphs = counters["stats"]["unique_graphs"]
    bench.forget_memory()
    run()
    seconds = bench.seconds([run])
    return {
        "model": name,
        "batch": len(images),
        "how": how,
        "backend": bench.compiler,
        "compile s": compile_seconds,
        "ms": seconds * 1e3,
        "images/s": len(images) / seconds,
        "error to fused": error,
        "graphs": graphs,
        "compiled again later": counters["stats"]["unique_graphs"] - graphs,
        "peak GB": bench.peak_gigabytes(),
    }
