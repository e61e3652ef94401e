"""Processor time of a request, by process and thread.

    python -m benchmarks.serving.where_time_goes    # one minute

Writes ``benchmarks/results/serving-where-time-goes.md``. The service has one core and the simulated
device, the load generator the other core; 32 requests are always in flight.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterable

import uvloop

from benchmarks.machine import describe_machine
from benchmarks.serving.alone import CLIENT_CORE, OUTPUT, SERVER_CORE
from benchmarks.serving.contestants import ours_simulated
from benchmarks.serving.footprint import HTTP_WORKER
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.plan import WORKLOADS
from benchmarks.serving.processes import PROC, member_running, thread_seconds
from benchmarks.serving.running_server import RunningServer
from service.commands.bench.generator import LoadGenerator

CONCURRENCY, SECONDS, REPEATS = 32, 6.0, 3

HTTP_LOOP = "HTTP worker: event loop (HTTP, FastAPI, limits, link, rendering, metrics, log)"
HTTP_DECODING = "HTTP worker: decoding threads"
ENGINE_LOOP = "engine: event loop (link, admission, batches, answers)"
ENGINE_DEVICE = "engine: the device's thread"
ROLES = (HTTP_LOOP, HTTP_DECODING, ENGINE_LOOP, ENGINE_DEVICE)
SIMULATED_ENGINE = "simulated_engine"


def main() -> None:
    load_at_start = os.getloadavg()
    os.sched_setaffinity(0, {CLIENT_CORE})
    columns = {each.name: measure(draw_payloads(each.width, each.height)) for each in WORKLOADS}
    machine = describe_machine(load_at_start, os.cpu_count() or 1)
    text = as_markdown(machine, columns)
    (OUTPUT / "serving-where-time-goes.md").write_text(text)
    print(text)


def measure(payloads: list[Payload]) -> dict[str, float]:
    """Return the seconds of processor time of an answer, by role; medians over the repeats."""
    with RunningServer(ours_simulated(), payloads[0], str(SERVER_CORE)) as server:
        uvloop.run(LoadGenerator(server.target, payloads).closed_loop(CONCURRENCY, SECONDS))
        runs = [_measure_once(server, payloads) for _ in range(REPEATS)]
    return {role: statistics.median(run[role] for run in runs) for role in ROLES}


def _measure_once(server: RunningServer, payloads: list[Payload]) -> dict[str, float]:
    before = role_seconds(server.family)
    generator = LoadGenerator(server.target, payloads)
    samples = uvloop.run(generator.closed_loop(CONCURRENCY, SECONDS))
    spent = role_seconds(server.family)
    answers = sum(sample.status == 200 for sample in samples)
    return {role: (spent[role] - before[role]) / answers for role in ROLES}


def role_seconds(family: Iterable[int]) -> dict[str, float]:
    """Return the processor time of our processes' threads so far, by their roles."""
    family = list(family)
    http = thread_seconds(member_running(family, HTTP_WORKER))
    engine = thread_seconds(_engine(family))
    return {
        HTTP_LOOP: http.loop,
        HTTP_DECODING: http.others,
        ENGINE_LOOP: engine.loop,
        ENGINE_DEVICE: engine.others,
    }


def _engine(family: Iterable[int]) -> int:
    return next(
        pid for pid in family if SIMULATED_ENGINE in (PROC / str(pid) / "cmdline").read_text()
    )


def as_markdown(machine: dict[str, str], columns: dict[str, dict[str, float]]) -> str:
    """Write the table."""
    rows = [
        f"| {role} | " + " | ".join(_ms(each[role]) for each in columns.values()) + " |"
        for role in ROLES
    ]
    totals = " | ".join(_ms(sum(each.values())) for each in columns.values())
    command = " ".join(["python", "-m", "benchmarks.serving.where_time_goes", *sys.argv[1:]])
    return "\n".join(
        [
            "# Where the processor time of an answer goes, milliseconds",
            "",
            f"`{command}`",
            "",
            *(f"- {fact}: {value}" for fact, value in machine.items()),
            "",
            f"The service on one core, {CONCURRENCY} requests always under way, the device",
            f"simulated (it sleeps). Medians of {REPEATS} runs of {SECONDS:g} s.",
            "",
            "| thread | " + " | ".join(columns) + " |",
            "| --- |" + " --: |" * len(columns),
            *rows,
            f"| all | {totals} |",
            "",
        ]
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


if __name__ == "__main__":
    main()
