"""Images a second of ``overlock batch``, ``overlock predict`` and a plain DataLoader loop.

    PYTHONPATH=.:tests python -m benchmarks.batch.throughput    # half an hour
    PYTHONPATH=.:tests python -m benchmarks.batch.throughput --output batch-avx2

Writes ``benchmarks/results/batch-cpu.json`` and ``.md``. All three classify the same photographs,
JPEG of 640x480, in batches of 8, on three devices: two that only wait, at T's speed on a CPU and
without any time, and T itself with random weights, float32. Their runs take turns. A rate is that
of the middle of a run: Ray's start takes ten seconds, whatever the number of images.

The limits: decoding's own rate D, with a process on each core at the same time, which reads files
and makes the network's input of them, as every program has to; the device's own rate R; and where
both share the cores, R / (1 + R / D). Machines change their speed within minutes, so both are
measured before and after each program, whose limit is the mean. All but the DataLoader have the
environment that the commands begin with.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.batch.networks import COSTS, IMMEDIATE
from benchmarks.batch.programs import CORES
from benchmarks.machine import describe_machine
from service.commands.bench.sample_image import draw_photograph
from service.processes.environment import engine_environment

ROOT = Path(__file__).parents[2]
"""For Ray's processes, which work in other folders."""

RESULTS = Path(__file__).parents[1] / "results"
COMMAND = " ".join(["PYTHONPATH=.:tests python -m benchmarks.batch.throughput", *sys.argv[1:]])
DRAWN = 64
"""Different photographs; the others are these under other names."""

PROGRAMS = {
    "batch": "`overlock batch`",
    "predict": "`overlock predict`",
    "loader": f"DataLoader, {CORES} workers",
}
IMAGES = {"simulated T": 800, "simulated fast": 4000, "real T": 320}
MIDDLE = 0.25, 0.9
"""Shares of the images between which a rate is taken."""

FOREIGN = {"loader"}
"""Programs without the environment that the service's commands begin with: the others keep their
memory, and their threads do not spin while they wait."""

GOALS = {"simulated T": 0.95, "simulated fast": 0.90, "real T": 0.95}
"""Least shares of the limit."""


@dataclass(frozen=True)
class Turn:
    """The runs of a turn on one device, images a second.

    Attributes:
        decoding: of decoding alone, on all cores, before the first program and after each.
        device: of the device alone, at the same moments; None if it takes no time.
        limits: by program: what it cannot exceed.
        programs: by program.
    """

    decoding: list[float]
    device: list[float] | None
    limits: dict[str, float]
    programs: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3, help="[3]")
    parser.add_argument("--output", default="batch-cpu", help="name of the files in results/")
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    turns: dict[str, list[Turn]] = {device: [] for device in IMAGES}
    with tempfile.TemporaryDirectory() as folder:
        photos = {
            device: draw(Path(folder, device.replace(" ", "-")), count)
            for device, count in IMAGES.items()
        }
        for number in range(arguments.turns):
            for device in IMAGES:
                turns[device].append(measured(device, photos[device], number))
    write(turns, describe_machine(load_at_start, CORES), arguments.output)


def draw(folder: Path, count: int) -> Path:
    """Write so many photographs."""
    folder.mkdir()
    for number in range(count):
        file = folder / f"{number:05d}.jpg"
        if number < DRAWN:
            file.write_bytes(draw_photograph(np.random.default_rng(number)))
        else:
            file.hardlink_to(folder / f"{number % DRAWN:05d}.jpg")
    return folder


def measured(device: str, photos: Path, number: int) -> Turn:
    """Run all programs on a device; each turn begins with another one."""
    order = [*PROGRAMS][number % len(PROGRAMS) :] + [*PROGRAMS][: number % len(PROGRAMS)]
    alone = [measured_alone(device, photos)]
    programs = {}
    for name in order:
        programs[name] = run(name, device, photos)
        alone.append(measured_alone(device, photos))
    limits = [limit_of(device, *each) for each in alone]
    means = [statistics.mean(pair) for pair in pairwise(limits)]
    devices = [rate for _, rate in alone if rate is not None]
    turn = Turn(
        [decoding for decoding, _ in alone],
        devices or None,
        dict(zip(order, means, strict=True)),
        programs,
    )
    print(device, turn.limits, turn.programs, flush=True)
    return turn


def measured_alone(device: str, photos: Path) -> tuple[float, float | None]:
    """Return the rates of decoding and of the device; None if that takes no time."""
    decoding = run("decode", device, photos, processes=CORES)
    return decoding, None if COSTS.get(device) == IMMEDIATE else run("network", device, photos)


def limit_of(device: str, decoding: float, alone: float | None) -> float:
    """Return the images a second that no program can exceed."""
    if alone is None:
        return decoding
    waits = device in COSTS
    return min(decoding, alone) if waits else alone / (1 + alone / decoding)


def run(program: str, device: str, photos: Path, processes: int = 1) -> float:
    """Run a program, in so many processes at a time; return its images a second in the middle."""
    environment = environment_of(program)
    with tempfile.TemporaryDirectory() as folder:
        times = [Path(folder, f"{number}") for number in range(processes)]
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.batch.programs", program, device, photos, file],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for file in times
        ]
        for process in started:
            _, said = process.communicate()
            if process.returncode:
                raise RuntimeError(f"{program} on {device}: {said[-2000:]}")
        return sum(map(rate_in, times))


def environment_of(program: str) -> dict[str, str]:
    """Return the variables of a program's process."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return environment if program in FOREIGN else environment | engine_environment()


def rate_in(times: Path) -> float:
    """Return the images a second in the middle of a run, by the moments of its batches."""
    pairs = [line.split() for line in times.read_text().splitlines()]
    moments = np.array([float(moment) for moment, _ in pairs])
    images = np.cumsum([int(count) for _, count in pairs])
    first, last = (int(np.searchsorted(images, share * images[-1])) for share in MIDDLE)
    return float((images[last] - images[first]) / (moments[last] - moments[first]))


def write(turns: dict[str, list[Turn]], machine: dict[str, str], output: str) -> None:
    """Write the results."""
    lines = [
        "# Offline work: images a second",
        "",
        f"`{COMMAND}`; photographs of 640x480, JPEG, batches of 8; "
        f"{len(turns['real T'])} interleaved turn(s), their medians. The limit is measured before "
        "and after each program; a share is of the mean of both, and its range over the turns in "
        "brackets.",
        "",
        *(f"- {fact}: {value}" for fact, value in machine.items()),
        "",
        "| device | decoding on all cores | device alone | program | images/s | of the limit "
        "| goal |",
        "|--|--|--|--|--|--|--|",
    ]
    for device, runs in turns.items():
        decoding = statistics.median(rate for turn in runs for rate in turn.decoding)
        devices = [rate for turn in runs for rate in turn.device or ()]
        alone = f"{statistics.median(devices):.1f}" if devices else ""
        for name, title in PROGRAMS.items():
            rate = statistics.median(turn.programs[name] for turn in runs)
            shares = sorted(turn.programs[name] / turn.limits[name] for turn in runs)
            share = f"{statistics.median(shares):.3f} ({shares[0]:.2f} to {shares[-1]:.2f})"
            goal = f"{GOALS[device]:.2f}" if name == "batch" else ""
            lines.append(
                f"| {device} | {decoding:.0f} | {alone} | {title} | {rate:.1f} | {share} | {goal} |"
            )
    (RESULTS / f"{output}.md").write_text("\n".join(lines) + "\n")
    document = {
        "command": COMMAND,
        "machine": machine,
        "turns": {device: [asdict(turn) for turn in runs] for device, runs in turns.items()},
    }
    (RESULTS / f"{output}.json").write_text(json.dumps(document, indent=2) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
