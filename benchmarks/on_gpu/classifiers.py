"""The other classifiers at 224x224, as CUDA graphs, not compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.networks import folded, images_of, trained, with_measured_kernels

NAMES = ("overlock_xt", "overlock_b", "overlock_s")
BATCHES = (64, 1)


def rows(bench: Bench) -> Iterator[Row]:
    for name in ("nano",) if bench.quick else NAMES:
        network = folded(trained(name), bench.fast_dtype, bench.device)
        for batch in (2,) if bench.quick else BATCHES:
            yield _row(bench, name, network, batch)


def _row(bench: Bench, name: str, network: nn.Module, batch: int) -> Row:
    size = (64, 64) if bench.quick else (224, 224)
    images = images_of(bench.device, batch, size, bench.fast_dtype)
    network, _ = with_measured_kernels(bench, network, images)
    bench.forget_memory()
    run = _forward(network, images)
    run()
    peak = bench.peak_gigabytes()
    seconds = bench.seconds([run])
    return {
        "model": name,
        "batch": batch,
        "dtype": str(bench.fast_dtype),
        "ms": seconds * 1e3,
        "images/s": batch / seconds,
        "peak GB": peak,
    }


def _forward(network: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[], Tensor]:
    @torch.inference_mode()
    def run() -> Tensor:
        return network(images)

    return run
