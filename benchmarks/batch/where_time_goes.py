"""Processor time of ``overlock batch`` by process, on a device that takes no time.

    PYTHONPATH=.:tests python -m benchmarks.batch.where_time_goes    # two minutes

Writes ``benchmarks/results/batch-where-time-goes.md``. Decoding has every core, gives way to all
else, and is the limit: what the other processes take is what the run lacks of decoding's own rate,
which is measured before and after each run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.batch.programs import CORES
from benchmarks.batch.throughput import RESULTS, draw, environment_of, rate_in, run
from benchmarks.machine import describe_machine
from benchmarks.serving.processes import PROC, cpu_seconds, family_of

DEVICE, IMAGES, TURNS = "simulated fast", 4000, 3
FIRST, LAST = 0.3, 0.85
"""Shares of the images between which the processor time is taken."""

DECODERS, NETWORK, DRIVER = "decoders", "the network's process", "the command's own process"
RAY = "Ray's other processes"
REST = "other programs, threads that ended meanwhile, nothing"
ROLES = (DECODERS, NETWORK, DRIVER, RAY)
MARKS = {"Decoder)": DECODERS, "(Predictor)": NETWORK}
"""By what their processes are named after."""

WAIT_SECONDS = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="batch-where-time-goes", help="name of the file")
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        photos = draw(Path(folder, "photos"), IMAGES)
        turns = [measured(photos) for _ in range(TURNS)]
    text = as_markdown(describe_machine(load_at_start, CORES), turns)
    (RESULTS / f"{arguments.output}.md").write_text(text)
    print(text)


def measured(photos: Path) -> tuple[dict[str, float], float]:
    """Return each role's share of all cores' time, and the run's of decoding's own rate."""
    before = run("decode", DEVICE, photos, processes=CORES)
    with tempfile.TemporaryDirectory() as folder:
        times, said = Path(folder, "times"), Path(folder, "said")
        words = ["-m", "benchmarks.batch.programs", "batch", DEVICE, str(photos), str(times)]
        with said.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *words],
                env=environment_of("batch"),
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        wait_for(process, times, round(FIRST * IMAGES))
        started, first = time.monotonic(), role_seconds(process.pid)
        wait_for(process, times, round(LAST * IMAGES))
        seconds, last = time.monotonic() - started, role_seconds(process.pid)
        if process.wait():
            raise RuntimeError(f"overlock batch: {said.read_text()[-2000:]}")
        rate = rate_in(times)
    after = run("decode", DEVICE, photos, processes=CORES)
    shares = {role: (last[role] - first[role]) / seconds / CORES for role in ROLES}
    return shares, rate / statistics.mean((before, after))


def wait_for(process: subprocess.Popen[bytes], times: Path, images: int) -> None:
    """Wait until so many images are done, or the program has ended."""
    while process.poll() is None and not (times.exists() and done_in(times) >= images):
        time.sleep(WAIT_SECONDS)


def done_in(times: Path) -> int:
    """Count the images that are done, by the lines that are complete."""
    lines = times.read_text().splitlines(keepends=True)
    return sum(int(line.split()[1]) for line in lines if line.endswith("\n"))


def role_seconds(driver: int) -> dict[str, float]:
    """Return the processor time of a run's processes so far, by role."""
    seconds = dict.fromkeys(ROLES, 0.0)
    for pid in family_of(driver):
        role = DRIVER if pid == driver else role_of(pid)
        seconds[role] += cpu_seconds([pid])
    return seconds


def role_of(pid: int) -> str:
    """Return the role of a process that the driver has started."""
    try:
        name = (PROC / str(pid) / "cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return RAY
    return next((role for mark, role in MARKS.items() if mark in name), RAY)


def as_markdown(machine: dict[str, str], turns: list[tuple[dict[str, float], float]]) -> str:
    """Write the table."""
    rates = sorted(rate for _, rate in turns)
    columns = {role: [shares[role] for shares, _ in turns] for role in ROLES}
    columns[REST] = [1 - sum(shares.values()) for shares, _ in turns]
    command = "PYTHONPATH=.:tests python -m benchmarks.batch.where_time_goes"
    return "\n".join(
        [
            "# Where the processor time of `overlock batch` goes",
            "",
            f"`{' '.join([command, *sys.argv[1:]])}`",
            "",
            *(f"- {fact}: {value}" for fact, value in machine.items()),
            "",
            f"Photographs of 640x480, a device that takes no time; {TURNS} runs, the share of all",
            "cores' time in the middle of each, medians and ranges.",
            "",
            "| process | share | range |",
            "| --- | --: | --: |",
            *(
                f"| {role} | {statistics.median(each):.3f} | {min(each):.3f} to {max(each):.3f} |"
                for role, each in columns.items()
            ),
            "",
            f"Of decoding's own rate, on all cores with nothing beside it, the runs had "
            f"{statistics.median(rates):.2f} ({rates[0]:.2f} to {rates[-1]:.2f}).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
