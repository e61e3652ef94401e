"""Comparison of the networks on the device, as served, with their trained form on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.on_gpu.bench import Bench, Row, relative_error, verdict
from benchmarks.on_gpu.networks import folded, images_of, trained, with_measured_kernels
from benchmarks.on_gpu.references import CASES, Case, outputs, reference

BOUND = 2e-2
"""Largest relative error by norms, in bfloat16."""

QUICK_CASES: tuple[Case, ...] = (
    ("nano", 2, (64, 64)),
    ("upernet_nano", 1, (64, 96)),
    ("mask_rcnn_nano", 1, (64, 64)),
)


def rows(bench: Bench) -> Iterator[Row]:
    for case in QUICK_CASES if bench.quick else CASES:
        name, batch, size = case
        want, source = reference(case)
        network = folded(trained(name), bench.fast_dtype, bench.device)
        images = images_of(bench.device, batch, size, bench.fast_dtype)
        network, _ = with_measured_kernels(bench, network, images)
        for what, output in outputs(network, images).items():
            error = relative_error(output, want[what])
            yield {
                "network": name,
                "input": str((batch, *size)),
                "dtype": str(bench.fast_dtype),
                "what": what,
                "reference": source,
                "error": error,
                "verdict": verdict(error, BOUND),
            }
