"""Times the networks' inference form against their trained form, on the CPU.

The baseline is ``fused=False``: norms and branches of their own, ContMix by the plain reference,
NCHW, float32. The contestants of a case take turns, so that whatever else the machine does hits
all of them alike, and their medians are compared. A matrix product takes its turn too: it says
how fast the machine was at that moment. Weights are random; time does not depend on them.

    python benchmarks/network.py --models overlock_t --batches 1 8 --dtypes float32 --repeats 15
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.machine import describe_machine
from model.zoo import create_model

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Workload:
    """What one image costs a network.

    Attributes:
        height: of the input, pixels.
        width: of the input, pixels.
        gmacs: multiply-adds by the paper's count, 10^9; each is two floating-point operations.
    """

    height: int
    width: int
    gmacs: float


WORKLOADS = {
    "overlock_xt": Workload(224, 224, 2.7),
    "overlock_t": Workload(224, 224, 5.6),
    "overlock_s": Workload(224, 224, 9.9),
    "overlock_b": Workload(224, 224, 17.1),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-1}
"""Largest difference from the baseline, relative to its largest output, that is rounding."""

GEMM_SIDE = 2048
PATIENCE_SECONDS = 20.0
"""A contestant whose first pass takes longer is not repeated: that pass is its measurement."""

EXPLANATION = f"""\
Random weights. Milliseconds are the median of the turns that the contestants of one model and
input took one after the other, after one pass to warm up; a contestant whose first pass took more
than {PATIENCE_SECONDS:.0f} s has that pass alone. Baseline: the trained form (`fused=False`: norms,
branches and the reference ContMix), NCHW, float32. Inference: folded, channels last. Error: the
largest difference from the baseline's output over its largest output. GFLOP/s count the paper's
multiply-adds twice; beside them the rate of a {GEMM_SIDE}x{GEMM_SIDE}x{GEMM_SIDE} product in the
same dtype and the same turns."""

BASELINE = ("baseline", "float32")
Pass = Callable[[], Tensor]
Contestants = dict[tuple[str, str], Pass]
"""By form ("baseline", "inference" or "gemm") and dtype."""


@dataclass(frozen=True)
class Measurement:
    """The time of one contestant.

    Attributes:
        model: the network's name.
        input: "BxHxW".
        form: "baseline" or "inference".
        dtype: of weights and images.
        turns: number of passes that the median is of.
        median_seconds: of one pass.
        images_per_second: at the median.
        speedup: over the baseline of the same model and input.
        relative_error: largest difference from the baseline's output over its largest output.
        gflop_per_second: at the median, by the paper's count.
        gemm_gflop_per_second: of the matrix product in the same dtype and the same turns.
    """

    model: str
    input: str
    form: str
    dtype: str
    turns: int
    median_seconds: float
    images_per_second: float
    speedup: float
    relative_error: float
    gflop_per_second: float
    gemm_gflop_per_second: float


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    load_at_start = os.getloadavg()
    measurements = [
        measurement
        for name in arguments.models
        for batch in arguments.batches
        for measurement in measure(name, batch, arguments.dtypes, arguments.repeats)
    ]
    command = shlex.join(["python", "benchmarks/network.py", *sys.argv[1:]])
    machine = describe_machine(load_at_start)
    report = {
        "command": command,
        "machine": machine,
        "measurements": [asdict(measurement) for measurement in measurements],
    }
    table = as_markdown(command, machine, measurements)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.output}.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / f"{arguments.output}.md").write_text(table)
    print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the networks on the CPU.")
    parser.add_argument(
        "--models", nargs="+", choices=WORKLOADS, default=["overlock_xt", "overlock_t"]
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, help="by default as many as PyTorch chooses")
    parser.add_argument("--output", default="network-cpu", help="name of the files in results/")
    return parser.parse_args()


def measure(name: str, batch: int, dtypes: list[str], repeats: int) -> list[Measurement]:
    """Time one network at one batch size in all its forms.

    Raises:
        RuntimeError: if a form's output is not the baseline's.
    """
    workload = WORKLOADS[name]
    passes = network_passes(name, (batch, 3, workload.height, workload.width), dtypes)
    gemms = {("gemm", dtype): gemm_pass(DTYPES[dtype]) for _, dtype in passes}
    outputs, first_seconds = first_passes(passes | gemms)
    errors = {key: relative_error(outputs[key], outputs[BASELINE]) for key in passes}
    for (form, dtype), error in errors.items():
        print(f"{name}, {batch} images, {form}, {dtype}: error {error:.0e}", file=sys.stderr)
        if not error <= TOLERANCES[dtype]:
            raise RuntimeError(f"{name}, {form}, {dtype}: the output is off by {error:.1e}.")

    seconds = take_turns(passes | gemms, first_seconds, repeats)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    return [
        Measurement(
            model=name,
            input=f"{batch}x{workload.height}x{workload.width}",
            form=form,
            dtype=dtype,
            turns=len(seconds[form, dtype]),
            median_seconds=medians[form, dtype],
            images_per_second=batch / medians[form, dtype],
            speedup=medians[BASELINE] / medians[form, dtype],
            relative_error=errors[form, dtype],
            gflop_per_second=2 * workload.gmacs * batch / medians[form, dtype],
            gemm_gflop_per_second=2 * GEMM_SIDE**3 / 1e9 / medians["gemm", dtype],
        )
        for form, dtype in passes
    ]


def network_passes(name: str, shape: tuple[int, int, int, int], dtypes: list[str]) -> Contestants:
    """Return the baseline's pass and the engine's: folded, channels last, in each dtype."""
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    passes = {BASELINE: network_pass(create_model(name, weights="random", fused=False), images)}
    for dtype in dtypes:
        network = create_model(name, weights="random").to(DTYPES[dtype])
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = images.to(DTYPES[dtype], memory_format=torch.channels_last)
        passes["inference", dtype] = network_pass(network, inputs)
    return passes


def network_pass(network: nn.Module, images: Tensor) -> Pass:
    def run() -> Tensor:
        with torch.inference_mode():
            output: Tensor = network(images)
            return output

    return run


def gemm_pass(dtype: torch.dtype) -> Pass:
    matrix = torch.randn(GEMM_SIDE, GEMM_SIDE).to(dtype)
    return lambda: matrix @ matrix


def relative_error(got: Tensor, want: Tensor) -> float:
    return ((got.float() - want).abs().max() / want.abs().max()).item()


def first_passes(
    contestants: Contestants,
) -> tuple[dict[tuple[str, str], Tensor], dict[tuple[str, str], float]]:
    """Warm every contestant up; return what it computes and about how long it takes, seconds."""
    outputs, seconds = {}, {}
    for key, run in contestants.items():
        start = time.perf_counter()
        outputs[key] = run()
        seconds[key] = time.perf_counter() - start
    return outputs, seconds


def take_turns(
    contestants: Contestants, first_seconds: dict[tuple[str, str], float], repeats: int
) -> dict[tuple[str, str], list[float]]:
    """Time every contestant once per turn; see ``PATIENCE_SECONDS`` for the exception."""
    repeated = {
        key: run for key, run in contestants.items() if first_seconds[key] <= PATIENCE_SECONDS
    }
    seconds = {key: [] if key in repeated else [first_seconds[key]] for key in contestants}
    for _ in range(repeats):
        for key, run in repeated.items():
            start = time.perf_counter()
            run()
            seconds[key].append(time.perf_counter() - start)
    return seconds


def as_markdown(command: str, machine: dict[str, str], measurements: list[Measurement]) -> str:
    """Write the table for people."""
    lines = [
        "# Networks on the CPU",
        "",
        f"`{command}`",
        "",
        *(f"- {fact}: {value}" for fact, value in machine.items()),
        "",
        EXPLANATION,
        "",
        "| model | input | form | dtype | turns | ms | images/s | speed-up | error | GFLOP/s "
        "| of GEMM |",
        "| --- | --- | --- | --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in measurements:
        of_gemm = row.gflop_per_second / row.gemm_gflop_per_second
        lines.append(
            f"| {row.model} | {row.input} | {row.form} | {row.dtype} | {row.turns} "
            f"| {row.median_seconds * 1e3:.1f} | {row.images_per_second:.2f} "
            f"| {row.speedup:.2f} | {row.relative_error:.0e} | {row.gflop_per_second:.1f} "
            f"| {of_gemm:.0%} of {row.gemm_gflop_per_second:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
