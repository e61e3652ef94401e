"""The kernels' times beside the memory's limit: each byte moved once at the speed of a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.on_gpu.bench import Bench, Row
from benchmarks.on_gpu.problems import DepthwiseProblem, MixingProblem, of_network
from model.kernels.context_mixing import Implementation as MixingImplementation
from model.kernels.context_mixing import context_mixing
from model.kernels.gpu.mixing_orders import triton_orders
from model.kernels.gpu.timing import Workload
from model.kernels.large_depthwise import large_depthwise, triton_tiles

COPIED_BYTES = 2**32


def rows(bench: Bench) -> Iterator[Row]:
    copied_bytes = 2**20 if bench.quick else COPIED_BYTES
    seconds = _copy_seconds(bench, copied_bytes)
    bandwidth = copied_bytes / seconds
    yield _row("copy", "", "torch.float32", "torch", seconds, copied_bytes, bandwidth)
    dtype = bench.fast_dtype
    cases = [(1, (224, 224)), (1, (800, 1088)), (64, (224, 224))]
    name = "overlock_t"
    if bench.quick:
        cases, name = [(1, (64, 64))], "nano"
    for batch, size in cases:
        mixing, depthwise = of_network(name, batch, size)
        for problem in mixing:
            for label, make in _mixing_runs(bench, problem, dtype):
                needed = problem.bytes_once(dtype)
                seconds = bench.cold_seconds(make, needed)
                yield _row("ContMix", str(problem), str(dtype), label, seconds, needed, bandwidth)
        for convolution in depthwise:
            tiles = triton_tiles(dtype, convolution.channels, convolution.kernel_size)
            for label in tiles if bench.is_cuda else ("plain",):
                needed = convolution.bytes_once(dtype)
                make = partial(_depthwise_run, convolution, dtype, bench.device, label)
                seconds = bench.cold_seconds(make, needed)
                yield _row(
                    "depthwise", str(convolution), str(dtype), label, seconds, needed, bandwidth
                )


def _row(
    kernel: str, problem: str, dtype: str, label: str, seconds: float, needed: int, bandwidth: float
) -> Row:
    return {
        "kernel": kernel,
        "problem": problem,
        "dtype": dtype,
        "implementation": label,
        "us": seconds * 1e6,
        "MB": needed / 1e6,
        "TB/s": needed / seconds / 1e12,
        "of the copy's": f"{needed / seconds / bandwidth:.0%}",
    }


def _copy_seconds(bench: Bench, copied_bytes: int) -> float:
    """Time a kernel that reads one half of the bytes and writes the other.

    Not ``copy_``: in a graph, the copy engines would do it, which are slower.
    """
    source = torch.rand(copied_bytes // 8, device=bench.device)
    target = torch.empty_like(source)
    return bench.seconds([lambda: torch.neg(source, out=target)])


def _mixing_runs(
    bench: Bench, problem: MixingProblem, dtype: torch.dtype
) -> Iterator[tuple[str, Callable[[], Workload]]]:
    def make(implementation: MixingImplementation) -> Workload:
        arguments = problem.arguments(dtype, bench.device, torch.channels_last)
        return partial(
            torch.inference_mode()(context_mixing), *arguments, implementation=implementation
        )

    if not bench.is_cuda:
        yield "tiles", partial(make, "tiles")
        return
    for order in triton_orders(dtype, problem.kernel_size, problem.width):
        yield order, partial(make, order)


def _depthwise_run(
    problem: DepthwiseProblem, dtype: torch.dtype, device: torch.device, label: str
) -> Workload:
    arguments = problem.arguments(dtype, device)
    return partial(torch.inference_mode()(large_depthwise), *arguments, label)  # type: ignore[arg-type]
