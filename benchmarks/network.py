"""Time the networks on a CPU: the authors' structure, PyTorch's operators alone, and as served.

The contestants of a task take turns, so that other work on the machine hits all of them alike, and
their medians are compared. A matrix product takes turns too, to measure how fast the machine was
at that moment. Weights are random; time does not depend on them, except that a detector's are
scaled until it finds as many objects as it may.

    python benchmarks/network.py --models overlock_t --batches 1 8 --repeats 15
    python benchmarks/network.py --instructions avx2 avx512 avx512_bf16 --output instructions-cpu
    python benchmarks/network.py --models upernet_overlock_t --batches 1 --output network-dense-cpu
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.contestants import DTYPES, GEMM_SIDE, Contestant, FirstPass, Racer, Task
from benchmarks.instructions import LIMITS
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"

BASELINE = Contestant("authors", "float32")
FORMS = ("folded", "compiled", "served")


@dataclass(frozen=True)
class Workload:
    """An image's size and its cost for a network.

    Attributes:
        height: of the input, pixels.
        width: of the input, pixels.
        gmacs: multiply-adds by the paper's count, 10^9; None if the paper counts another input:
            the baseline's are counted here.
        part: "whole" or "backbone".
        model: a name of ``model.zoo``; by default the workload's own.
    """

    height: int
    width: int
    gmacs: float | None = None
    part: str = "whole"
    model: str = ""


WORKLOADS = {
    "overlock_xt": Workload(224, 224, 2.7),
    "overlock_t": Workload(224, 224, 5.6),
    "overlock_s": Workload(224, 224, 9.9),
    "overlock_b": Workload(224, 224, 17.1),
    "backbone_t_512x704": Workload(512, 704, None, "backbone", "upernet_overlock_t"),
    "backbone_t_800x1088": Workload(800, 1088, None, "backbone", "mask_rcnn_overlock_t"),
    "upernet_overlock_xt": Workload(512, 704),
    "upernet_overlock_t": Workload(512, 704),
    "mask_rcnn_overlock_xt": Workload(800, 1088),
    "mask_rcnn_overlock_t": Workload(800, 1088),
    "cascade_mask_rcnn_overlock_t": Workload(800, 1088),
}
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-1}
"""Largest difference from the baseline that counts as rounding, relative to its largest output."""

PATIENCE_SECONDS = 30.0
"""Longest first pass of a contestant that is repeated; a longer one is the measurement itself."""

EXPLANATION = f"""\
Random weights. Milliseconds are the median of the turns that the contestants of one model and
input took one after the other, each in a process of its own, after one pass to warm up; a
contestant whose first pass took more than {PATIENCE_SECONDS:.0f} s has that pass alone.

- authors: the structure of the authors' code (`benchmarks/authors_structure.py`), float32.
- folded: our network folded, channels last, on PyTorch's operators alone.
- compiled: the folded form by torch.compile; its first pass took the seconds beside it.
- served: what an engine runs on a CPU, with our kernels, in an engine's environment; behind it the
  newest instructions that kernels, oneDNN and PyTorch may use, if they are limited.

Error: the largest difference from the authors' output over its largest output; of a detector, of
the scores. Peak: the most memory that the process held until the end of its first pass. GFLOP/s
count the paper's multiply-adds twice, or, for inputs that it has not, those that PyTorch counts in
the authors' structure: a form that needs fewer of them may be faster than the matrix product.
Beside them stands the rate of a {GEMM_SIDE}x{GEMM_SIDE}x{GEMM_SIDE} product in the same turns, in
the same dtype or in float32, whichever is faster."""


@dataclass(frozen=True)
class Measurement:
    """The time of one contestant.

    Attributes:
        workload: a name of ``WORKLOADS``.
        input: "BxHxW".
        form: "authors", "folded", "compiled" or "served".
        dtype: of weights and images.
        instructions: the newest ones that are allowed; empty for all of the processor's.
        compile_seconds: before the first pass; 0 for a form that is not compiled.
        turns: number of passes that the median is of.
        median_seconds: of one pass.
        images_per_second: at the median.
        speedup: over the baseline of the same model and input.
        relative_error: largest difference from the baseline's output over its largest output.
        peak_bytes: most resident memory of the process until the end of its first pass.
        gflop_per_second: at the median, by the paper's count.
        gemm_gflop_per_second: of the matrix product in the same turns, in the same dtype or in
            float32, to which any input can be widened; whichever is faster.
    """

    workload: str
    input: str
    form: str
    dtype: str
    instructions: str
    compile_seconds: float
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
    load_at_start = os.getloadavg()
    measurements = [
        measurement
        for name in arguments.models
        for batch in arguments.batches
        for measurement in measure(name, batch, arguments)
    ]
    command = shlex.join(["python", "benchmarks/network.py", *sys.argv[1:]])
    machine = describe_machine(load_at_start, arguments.threads)
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
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=["served"])
    parser.add_argument(
        "--instructions",
        nargs="+",
        choices=LIMITS,
        default=[""],
        help="limit the forms' instructions; by default they are the processor's",
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", default="network-cpu", help="name of the files in results/")
    return parser.parse_args()


def measure(name: str, batch: int, arguments: argparse.Namespace) -> list[Measurement]:
    """Time one network at one batch size in all its forms.

    Raises:
        RuntimeError: if a form's output is not the baseline's.
    """
    workload = WORKLOADS[name]
    task = Task(workload.model or name, workload.part, batch, workload.height, workload.width)
    forms = [
        Contestant(form, dtype, instructions)
        for form in arguments.forms
        for instructions in arguments.instructions
        for dtype in arguments.dtypes
    ]
    gemms = [Contestant("gemm", dtype) for dtype in {"float32", *arguments.dtypes}]
    with contextlib.ExitStack() as stack:
        racers, firsts = {}, {}
        for contestant in (BASELINE, *forms, *gemms):  # each warms up alone
            count = contestant == BASELINE and workload.gmacs is None
            racer = stack.enter_context(
                contextlib.closing(Racer(contestant, task, arguments.threads, count=count))
            )
            racers[contestant], firsts[contestant] = racer, racer.first_pass()
        errors = {each: relative_error(firsts[each], firsts[BASELINE]) for each in forms}
        check(name, batch, errors)
        seconds = take_turns(racers, firsts, arguments.repeats)

    medians = {each: statistics.median(times) for each, times in seconds.items()}
    gmacs = (workload.gmacs or 0) * batch or firsts[BASELINE].gmacs
    return [
        Measurement(
            workload=name,
            input=f"{batch}x{workload.height}x{workload.width}",
            form=each.form,
            dtype=each.dtype,
            instructions=each.instructions,
            compile_seconds=firsts[each].compile_seconds,
            turns=len(seconds[each]),
            median_seconds=medians[each],
            images_per_second=batch / medians[each],
            speedup=medians[BASELINE] / medians[each],
            relative_error=errors.get(each, 0.0),
            peak_bytes=firsts[each].peak_bytes,
            gflop_per_second=2 * gmacs / medians[each],
            gemm_gflop_per_second=2
            * GEMM_SIDE**3
            / 1e9
            / min(medians[Contestant("gemm", dtype)] for dtype in {"float32", each.dtype}),
        )
        for each in (BASELINE, *forms)
    ]


def relative_error(got: FirstPass, want: FirstPass) -> float:
    if got.output.shape != want.output.shape:  # another number of objects was found
        return float("inf")
    return float(np.abs(got.output - want.output).max() / np.abs(want.output).max())


def check(name: str, batch: int, errors: dict[Contestant, float]) -> None:
    for each, error in errors.items():
        print(f"{name}, {batch} images, {each.form}, {each.dtype}: {error:.0e}", file=sys.stderr)
        if not error <= TOLERANCES[each.dtype]:
            raise RuntimeError(f"{name}, {each.form}, {each.dtype}: off by {error:.1e}.")


def take_turns(
    racers: dict[Contestant, Racer], firsts: dict[Contestant, FirstPass], repeats: int
) -> dict[Contestant, list[float]]:
    """Time every contestant once per turn; see ``PATIENCE_SECONDS`` for the exception."""
    repeated = [each for each in racers if firsts[each].seconds <= PATIENCE_SECONDS]
    seconds = {each: [] if each in repeated else [firsts[each].seconds] for each in racers}
    for _ in range(repeats):
        for each in repeated:
            seconds[each].append(racers[each].run())
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
        "| model | input | form | dtype | compile s | turns | ms | images/s | speed-up | error "
        "| peak MB | GFLOP/s | of GEMM |",
        "| --- | --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in measurements:
        of_gemm = row.gflop_per_second / row.gemm_gflop_per_second
        lines.append(
            f"| {row.workload} | {row.input} | {' '.join([row.form, row.instructions]).strip()} "
            f"| {row.dtype} "
            f"| {f'{row.compile_seconds:.0f}' if row.compile_seconds else ''} | {row.turns} "
            f"| {row.median_seconds * 1e3:.1f} | {row.images_per_second:.2f} "
            f"| {row.speedup:.2f} | {row.relative_error:.0e} | {row.peak_bytes / 1e6:.0f} "
            f"| {row.gflop_per_second:.1f} | {of_gemm:.0%} of {row.gemm_gflop_per_second:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
