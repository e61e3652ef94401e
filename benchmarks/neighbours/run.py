"""Compare our networks on a CPU with other runtimes, and with other networks in their best form.

A group is all forms of one network at one batch size: they take turns, and each network's fastest
form in each dtype is noted. Then these take turns in the final group, whose numbers the plot shows.

    python -m benchmarks.neighbours.run --prepare
    python -m benchmarks.neighbours.run
    python -m benchmarks.neighbours.run --groups overlock_t:8 best:8
    python -m benchmarks.neighbours.run --dtypes float32 --output neighbours-avx2
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.contestants import DTYPES, GEMM_SIDE
from benchmarks.machine import describe_machine
from benchmarks.neighbours.forms import (
    FINAL,
    GROUPS,
    REFERENCE,
    TOLERANCES,
    Contestant,
    Group,
    Measurement,
    contestants_of,
)
from benchmarks.neighbours.processes import (
    reference_file,
    start,
    start_gemm,
    use_environment,
)
from benchmarks.neighbours.results import (
    NAME,
    GroupResult,
    load_results,
    save_results,
)
from benchmarks.serving.environments import checkout_environment, environment_bin

PASSES = 3
"""Of a turn, behind one that brings the contestant's weights back into the caches."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare served forms of networks on a CPU.")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="export and compile for the groups, and measure nothing: minutes for each network",
    )
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--output", default=NAME, help="name of the files in results/")
    arguments = parser.parse_args()
    if REFERENCE.dtype not in arguments.dtypes:
        parser.error(f"--dtypes: {REFERENCE.dtype} has to be among them, as the reference.")
    use_environment()
    for name in arguments.groups:
        group = GROUPS[name]
        if arguments.prepare:
            prepare(group, arguments.threads, arguments.dtypes)
            continue
        load_at_start = os.getloadavg()
        results = load_results(arguments.output)
        measured = [
            row
            for each in results.values()
            if each.is_of_networks(group.batch)
            for row in each.measurements
        ]
        contestants = contestants_of(group, measured, arguments.dtypes)
        measurements, gemms = measure(
            group, contestants, arguments.dtypes, arguments.turns, arguments.threads
        )
        command = ["python", "-m", "benchmarks.neighbours.run", *sys.argv[1:]]
        result = GroupResult(
            group=name,
            command=shlex.join(command),
            machine=describe_machine(load_at_start, arguments.threads),
            gemm_gflop_per_second=gemms,
            measurements=measurements,
        )
        save_results(results | {name: result}, arguments.output)
    finals = {name for name, group in GROUPS.items() if group.subject == FINAL}
    if not arguments.prepare and finals & set(arguments.groups):
        python = str(environment_bin("plot") / "python")
        plot = [python, "-m", "benchmarks.neighbours.plot", arguments.output]
        subprocess.run(plot, check=True, env=checkout_environment())


def prepare(group: Group, threads: int, dtypes: Sequence[str]) -> None:
    """Start every contestant of a network's group once, alone, and compare it."""
    if group.subject == FINAL:
        return
    for contestant in contestants_of(group, (), dtypes):
        with contextlib.closing(start(contestant, group.batch, threads)) as process:
            compare(contestant, group, process.first_logits())


def measure(
    group: Group,
    contestants: Sequence[Contestant],
    dtypes: Sequence[str],
    turns: int,
    threads: int,
) -> tuple[list[Measurement], dict[str, float]]:
    """Time the contestants of a group in turns, and a matrix product in each dtype.

    Returns:
        Their measurements, and GFLOP/s of a matrix product by dtype.

    Raises:
        RuntimeError: if a form's logits are not those of the network's reference.
    """
    with contextlib.ExitStack() as stack:
        racers, errors = {}, {}
        for contestant in sorted(contestants, key=lambda each: each.form != REFERENCE):
            racer = stack.enter_context(contextlib.closing(start(contestant, group.batch, threads)))
            errors[contestant] = compare(contestant, group, racer.first_logits())
            racers[contestant] = racer
        gemms = {
            dtype: stack.enter_context(contextlib.closing(start_gemm(dtype, threads)))
            for dtype in dtypes
        }
        for gemm in gemms.values():
            gemm.first_pass()
        seconds: dict[Contestant, list[float]] = {each: [] for each in contestants}
        gemm_seconds: dict[str, list[float]] = {dtype: [] for dtype in dtypes}
        for _ in range(turns):
            for contestant, racer in racers.items():
                seconds[contestant].append(seconds_of_turn(racer.run))
            for dtype, gemm in gemms.items():
                gemm_seconds[dtype].append(seconds_of_turn(gemm.run))
    rows = [
        Measurement(each, group.batch, tuple(seconds[each]), errors[each]) for each in contestants
    ]
    flop = 2 * GEMM_SIDE**3 / 1e9
    return rows, {dtype: flop / statistics.median(gemm_seconds[dtype]) for dtype in dtypes}


def seconds_of_turn(run: Callable[[], float]) -> float:
    """Make a pass that is not timed, and return the median of ``PASSES`` others."""
    run()
    return statistics.median(run() for _ in range(PASSES))


def compare(contestant: Contestant, group: Group, logits: NDArray[np.float32]) -> float:
    """Return the largest difference from the reference, over its largest logit.

    The reference's own logits are kept for the other forms and the final group.

    Raises:
        RuntimeError: if it is more than rounding.
    """
    path = reference_file(contestant.network, group.batch)
    if contestant.form == REFERENCE:
        np.save(path, logits)
    elif not path.exists():
        reference = Contestant(contestant.network, REFERENCE)
        with contextlib.closing(start(reference, group.batch, 1)) as process:
            np.save(path, process.first_logits())
    wanted = np.load(path)
    error = float(np.abs(logits - wanted).max() / np.abs(wanted).max())
    form = contestant.form
    name = f"{contestant.network}, {group.batch} images, {form.runtime}, {form.dtype}"
    print(f"{name}: {error:.0e}", file=sys.stderr)
    if not error <= TOLERANCES[form.dtype]:
        raise RuntimeError(f"{name}: off by {error:.1e}, more than {TOLERANCES[form.dtype]:.0e}.")
    return error


if __name__ == "__main__":
    main()
