"""Networks of timm, compiled and as CUDA graphs, with the same dtype, layout, images and clock."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn

from benchmarks.on_gpu.bench import Bench, Row, stopwatch
from benchmarks.on_gpu.classifiers import forward
from benchmarks.on_gpu.networks import images_of

PEERS = ("convnext_base", "convnext_tiny", "resnet50", "swin_tiny_patch4_window7_224")
BATCHES = (64, 256)


def rows(bench: Bench) -> Iterator[Row]:
    if find_spec("timm") is None:
        yield {"model": "none compared: timm is not installed"}
        return
    timm = import_module("timm")
    for name in ("resnet18",) if bench.quick else PEERS:
        network: nn.Module = timm.create_model(name, pretrained=False).eval()
        network = network.to(bench.device, bench.fast_dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # The strongest peer at both batches, the others at the one where all are near their best.
        for batch in (1,) if bench.quick else BATCHES[: 2 if name == PEERS[0] else 1]:
            yield _row(bench, name, network, batch)


def _row(bench: Bench, name: str, network: nn.Module, batch: int) -> Row:
    size = (64, 64) if bench.quick else (224, 224)
    images = images_of(bench, "fused", batch, size, bench.fast_dtype)
    eager = bench.seconds([forward(network, images, "fused")])
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, dynamic=False, backend=bench.compiler)
    run = forward(compiled, images, "fused")
    took = stopwatch()
    run()
    compile_seconds = took()
    seconds = bench.seconds([run])
    return {
        "model": name,
        "batch": batch,
        "dtype": str(bench.fast_dtype),
        "plain graph images/s": batch / eager,
        "compiled graph images/s": batch / seconds,
        "compile s": compile_seconds,
    }
