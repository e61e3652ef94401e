"""Compare the predictions of ``overlock plan`` with the service itself, on its simulated device.

    python -m benchmarks.serving.plan_check            # about ten minutes
    python -m benchmarks.serving.plan_check --quick    # one minute, less precise

Writes ``benchmarks/results/plan-check.json`` and ``.md``. Linux with at least two quiet cores: one
for the service, one for the load generator. The device's cost and the overhead around it are the
plan's only inputs; the overhead is measured first, with one request at a time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.machine import describe_machine
from benchmarks.serving.contestants import TIMEOUT_SECONDS, ours_simulated
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.plan import WORKLOADS
from benchmarks.serving.processes import core_busy_seconds, cpu_seconds
from benchmarks.serving.running_server import RunningServer
from benchmarks.serving.simulated_device import DEVICE_COST, MAX_BATCH_SIZE, DeviceCost
from model.config import Task
from service.commands.bench.generator import LoadGenerator, poisson_arrivals
from service.commands.bench.summary import WARM_UP_SECONDS, outcome_of
from service.commands.plan.replica import ReplicaSetup, SimulationResult, simulate
from service.engine.scheduling.cost_model import AffineCost
from service.settings import Settings

OUTPUT = Path(__file__).parents[1] / "results"
SERVER_CORE, CLIENT_CORE = 0, 1
SIMULATED_REQUESTS = 100_000


@dataclass(frozen=True)
class Case:
    """A device and the rates of requests.

    Attributes:
        device: its cost.
        rates: requests a second.
    """

    device: DeviceCost
    rates: tuple[float, ...]


CASES = (
    # As fast as a GPU: the overhead around the device counts, and at the highest rate the core that
    # decodes, which the plan ignores.
    Case(DEVICE_COST, (25, 50, 100, 200)),
    # 154 images a second in full batches: the device's queue counts.
    Case(DeviceCost(fixed_seconds=0.04, per_image_seconds=0.004), (30, 60, 110, 140)),
)


@dataclass(frozen=True)
class MeasuredLoad:
    """One run of the load generator against the service.

    Attributes:
        utilisation: share of the time that the device worked.
        requests_per_batch: mean.
        p50_seconds: latency.
        p99_seconds: latency.
        answered_fraction: of all requests.
        late_p99_seconds: delay of the generator's own sending.
        core_fraction: share of the time that the service worked on its core.
        foreign_core_fraction: share of the time that its core worked for other processes.
    """

    utilisation: float
    requests_per_batch: float
    p50_seconds: float
    p99_seconds: float
    answered_fraction: float
    late_p99_seconds: float
    core_fraction: float
    foreign_core_fraction: float


@dataclass(frozen=True)
class Comparison:
    """The prediction and the measurement of a load.

    Attributes:
        device: time of a batch of n, in words.
        overhead_seconds: around the device, measured with one request at a time.
        rate: requests a second.
        planned: by the simulation.
        measured: medians over the repeats.
    """

    device: str
    overhead_seconds: float
    rate: float
    planned: SimulationResult
    measured: MeasuredLoad


def main() -> None:
    # Exit cleanly, so that the server under test ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    arguments = parse_arguments()
    load_at_start = os.getloadavg()
    os.sched_setaffinity(0, {CLIENT_CORE})
    small = WORKLOADS[-1]
    payloads = draw_payloads(small.width, small.height)
    repeats, seconds = (1, 5.0) if arguments.quick else (3, 25.0)
    comparisons = [
        comparison for case in CASES for comparison in compare(case, payloads, repeats, seconds)
    ]
    command = shlex.join(["python", "-m", "benchmarks.serving.plan_check", *sys.argv[1:]])
    machine = describe_machine(load_at_start, os.cpu_count() or 1)
    OUTPUT.mkdir(exist_ok=True)
    document = {
        "command": command,
        "machine": machine,
        "comparisons": [asdict(each) for each in comparisons],
    }
    (OUTPUT / f"{arguments.output}.json").write_text(json.dumps(document, indent=1) + "\n")
    text = as_markdown(command, machine, comparisons)
    (OUTPUT / f"{arguments.output}.md").write_text(text)
    print(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the plan with the service.")
    parser.add_argument("--quick", action="store_true", help="a shorter run, for a look")
    parser.add_argument("--output", default="plan-check", help="name of the files in results/")
    return parser.parse_args()


def compare(
    case: Case, payloads: Sequence[Payload], repeats: int, seconds: float
) -> list[Comparison]:
    """Measure a case and predict it."""
    cost = AffineCost(case.device.fixed_seconds, case.device.per_image_seconds)
    words = f"{1e3 * cost.fixed_seconds:g} ms + {1e3 * cost.per_image_seconds:g} ms n"
    comparisons = []
    with RunningServer(ours_simulated(case.device), payloads[0], str(SERVER_CORE)) as server:
        overhead_seconds = measure_alone(server, payloads, seconds) - cost.seconds(1)
        setup = ReplicaSetup(
            task=Task.CLASSIFY,
            cost=cost,
            batch_limit=MAX_BATCH_SIZE,
            max_waiting=Settings.model_fields["max_queue_requests"].default,
            timeout_seconds=TIMEOUT_SECONDS,
            overhead_seconds=overhead_seconds,
        )
        for rate in case.rates:
            runs = [measure(server, payloads, rate, seconds, repeat) for repeat in range(repeats)]
            planned = simulate(setup, rate, requests=SIMULATED_REQUESTS)
            comparison = Comparison(words, overhead_seconds, rate, planned, medians(runs))
            print(comparison, file=sys.stderr)
            comparisons.append(comparison)
    return comparisons


def measure_alone(server: RunningServer, payloads: Sequence[Payload], seconds: float) -> float:
    """Return the median latency of one request at a time."""
    generator = LoadGenerator(server.target, payloads)
    samples = uvloop.run(generator.closed_loop(1, seconds))
    return outcome_of(samples, seconds).p50_seconds


def measure(
    server: RunningServer, payloads: Sequence[Payload], rate: float, seconds: float, repeat: int
) -> MeasuredLoad:
    """Offer a rate and measure latencies and the device's work."""
    generator = LoadGenerator(server.target, payloads)
    busy_before, batches_before = device_work(server.port)
    cpu_before, core_before = cpu_seconds(server.family), core_busy_seconds(SERVER_CORE)
    started = time.perf_counter()
    total_seconds = seconds + WARM_UP_SECONDS
    samples = uvloop.run(generator.open_loop(poisson_arrivals(rate, total_seconds, repeat)))
    elapsed_seconds = time.perf_counter() - started
    own_seconds = cpu_seconds(server.family) - cpu_before
    foreign_seconds = core_busy_seconds(SERVER_CORE) - core_before - own_seconds
    busy, batches = device_work(server.port)
    outcome = outcome_of(samples, total_seconds)
    answered = sum(sample.status == 200 for sample in samples)
    return MeasuredLoad(
        utilisation=(busy - busy_before) / elapsed_seconds,
        requests_per_batch=answered / max(batches - batches_before, 1),
        p50_seconds=outcome.p50_seconds,
        p99_seconds=outcome.p99_seconds,
        answered_fraction=answered / len(samples),
        late_p99_seconds=outcome.late_p99_seconds,
        core_fraction=own_seconds / elapsed_seconds,
        foreign_core_fraction=min(max(foreign_seconds / elapsed_seconds, 0.0), 1.0),
    )


def device_work(port: int) -> tuple[float, float]:
    """Return the seconds and the batches that the device has worked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("stage") == "device" and sample.labels.get("task") == Task.CLASSIFY
    }
    name = "overlock_stage_duration_seconds"
    return found[f"{name}_sum"], found[f"{name}_count"]


def medians(runs: Sequence[MeasuredLoad]) -> MeasuredLoad:
    """Return the median of each number over repeats."""
    return MeasuredLoad(
        **{
            name: statistics.median(getattr(run, name) for run in runs)
            for name in MeasuredLoad.__dataclass_fields__
        }
    )


def as_markdown(command: str, machine: dict[str, str], comparisons: Sequence[Comparison]) -> str:
    """Write the report: planned / measured."""
    heads = (
        "device",
        "around it, ms",
        "rate /s",
        "load",
        "busy",
        "requests a batch",
        "p50 ms",
        "p99 ms",
        "p99, measured / planned",
        "core busy",
        "core taken by others",
        "sent late, p99 ms",
    )
    rows = []
    for each in comparisons:
        planned, measured = each.planned, each.measured
        assert planned.p50_seconds is not None
        assert planned.p99_seconds is not None
        rows.append(
            (
                each.device,
                f"{1e3 * each.overhead_seconds:.1f}",
                f"{each.rate:g}",
                f"{planned.load:.0%}",
                f"{planned.utilisation:.0%} / {measured.utilisation:.0%}",
                f"{planned.requests_per_batch:.2f} / {measured.requests_per_batch:.2f}",
                f"{1e3 * planned.p50_seconds:.1f} / {1e3 * measured.p50_seconds:.1f}",
                f"{1e3 * planned.p99_seconds:.1f} / {1e3 * measured.p99_seconds:.1f}",
                f"{measured.p99_seconds / planned.p99_seconds:.2f}",
                f"{measured.core_fraction:.0%}",
                f"{measured.foreign_core_fraction:.0%}",
                f"{1e3 * measured.late_p99_seconds:.1f}",
            )
        )
    table = [heads, ("---", *("--:" for _ in heads[1:])), *rows]
    return (
        "# The plan against the service\n\n"
        f"`{command}`\n\n"
        + "\n".join(f"- {fact}: {value}" for fact, value in machine.items())
        + "\n\nPlanned / measured. The service has one core and one HTTP worker, the load "
        "generator another core;\nthe device is simulated, batches up to "
        f"{MAX_BATCH_SIZE}. Poisson arrivals, latencies from the moment at which a\nrequest was "
        "due, medians over the repeats. Only as good as the core was free for the service: look\n"
        "at the last columns first.\n\n"
        + "\n".join("| " + " | ".join(row) + " |" for row in table)
        + "\n"
    )


if __name__ == "__main__":
    main()
