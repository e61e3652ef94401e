"""Times the networks' inference form against their trained form, on the CPU.

The baseline is ``fused=False``: norms and branches of their own, ContMix by the plain reference,
NCHW, float32. The contestants of a case take turns, so that whatever else the machine does hits
all of them alike, and their medians are compared. A matrix product takes its turn too: it says
how fast the machine was at that moment. Weights are random; time does not depend on them, except
that a detector's are scaled until it is sure enough to find all the things that it may.

    python benchmarks/network.py --models overlock_t --batches 1 8 --dtypes float32 --repeats 15
    python benchmarks/network.py --models upernet_overlock_t --batches 1 --output network-dense-cpu
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import describe_machine
from model.heads.mask_rcnn import MaskRCNN
from model.zoo import create_model

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Workload:
    """What one image costs a network.

    Attributes:
        height: of the input, pixels.
        width: of the input, pixels.
        gmacs: multiply-adds by the paper's count, 10^9; each is two floating-point operations.
            None where the paper counts another input: they are counted here.
    """

    height: int
    width: int
    gmacs: float | None


WORKLOADS = {
    "overlock_xt": Workload(224, 224, 2.7),
    "overlock_t": Workload(224, 224, 5.6),
    "overlock_s": Workload(224, 224, 9.9),
    "overlock_b": Workload(224, 224, 17.1),
    "upernet_overlock_xt": Workload(512, 704, None),
    "upernet_overlock_t": Workload(512, 704, None),
    "mask_rcnn_overlock_xt": Workload(800, 1088, None),
    "mask_rcnn_overlock_t": Workload(800, 1088, None),
    "cascade_mask_rcnn_overlock_t": Workload(800, 1088, None),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-1}
"""Largest difference from the baseline, relative to its largest output, that is rounding."""

SURE = 100.0
"""Factor on a random detector's class logits: with it, it finds 100 things."""

GEMM_SIDE = 2048
PATIENCE_SECONDS = 20.0
"""A contestant whose first pass takes longer is not repeated: that pass is its measurement."""

EXPLANATION = f"""\
Random weights. Milliseconds are the median of the turns that the contestants of one model and
input took one after the other, after one pass to warm up; a contestant whose first pass took more
than {PATIENCE_SECONDS:.0f} s has that pass alone. Baseline: the trained form (`fused=False`: norms,
branches and the reference ContMix), NCHW, float32. Inference: folded, channels last. Error: the
largest difference from the baseline's output over its largest output; of a detector, of the
scores. Peak: the most memory that a process of its own held, which builds the form and makes one
pass. GFLOP/s count the paper's multiply-adds twice, or, for inputs that it has not, those that
PyTorch counts in the inference form; beside them the rate of a
{GEMM_SIDE}x{GEMM_SIDE}x{GEMM_SIDE} product in the same dtype and the same turns."""

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
        peak_bytes: most resident memory of a process that builds the form and makes one pass.
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
    peak_bytes: int
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
    forms = [BASELINE, *(("inference", dtype) for dtype in dtypes)]
    peaks = {form: peak_bytes_of(name, batch, form) for form in forms}
    passes: Contestants = {form: network_pass(name, batch, form) for form in forms}
    gmacs = workload.gmacs or counted_gmacs(passes["inference", dtypes[0]]) / batch
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
            peak_bytes=peaks[form, dtype],
            gflop_per_second=2 * gmacs * batch / medians[form, dtype],
            gemm_gflop_per_second=2 * GEMM_SIDE**3 / 1e9 / medians["gemm", dtype],
        )
        for form, dtype in passes
    ]


def network_pass(name: str, batch: int, form: tuple[str, str]) -> Pass:
    """Return the baseline's pass, or the engine's: folded, channels last, in a dtype."""
    workload, (kind, dtype) = WORKLOADS[name], form
    shape = (batch, 3, workload.height, workload.width)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    network: nn.Module = create_model(name, weights="random", fused=kind == "inference")
    if isinstance(network, MaskRCNN):
        for head in network.roi_heads.box_heads:
            head.get_parameter("classify.weight").mul_(SURE)
    if kind == "inference":
        network = network.to(DTYPES[dtype])
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(DTYPES[dtype], memory_format=torch.channels_last)

    def run() -> Tensor:
        with torch.inference_mode():
            if isinstance(network, MaskRCNN):
                found = network(images, [shape[2:]] * batch)
                return torch.cat([detections.scores for detections in found])
            output: Tensor = network(images)
            return output

    return run


def counted_gmacs(run: Pass) -> float:
    """Count the multiply-adds of a pass, 10^9."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 2e9


def peak_bytes_of(name: str, batch: int, form: tuple[str, str]) -> int:
    """Make one pass in a process of its own and return the most memory that it held."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_bytes, (name, batch, form, torch.get_num_threads()))


def _peak_bytes(name: str, batch: int, form: tuple[str, str], threads: int) -> int:
    torch.set_num_threads(threads)
    network_pass(name, batch, form)()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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
        "| model | input | form | dtype | turns | ms | images/s | speed-up | error | peak MB "
        "| GFLOP/s | of GEMM |",
        "| --- | --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in measurements:
        of_gemm = row.gflop_per_second / row.gemm_gflop_per_second
        lines.append(
            f"| {row.model} | {row.input} | {row.form} | {row.dtype} | {row.turns} "
            f"| {row.median_seconds * 1e3:.1f} | {row.images_per_second:.2f} "
            f"| {row.speedup:.2f} | {row.relative_error:.0e} | {row.peak_bytes / 1e6:.0f} "
            f"| {row.gflop_per_second:.1f} | {of_gemm:.0%} of {row.gemm_gflop_per_second:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
