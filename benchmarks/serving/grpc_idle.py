"""Latency of ``/v1/classify`` while gRPC is off, and while it is on and idle.

    python -m benchmarks.serving.grpc_idle            # about seven minutes
    python -m benchmarks.serving.grpc_idle --quick    # one minute, less precise

Writes ``benchmarks/results/grpc-idle-cpu.json`` and ``.md``. The service has one core and the
simulated device, the load generator the other core. Each turn starts a service without gRPC and one
with it, one after the other; every second turn in the other order.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

import uvloop

from benchmarks.machine import describe_machine
from benchmarks.serving.alone import CLIENT_CORE, OUTPUT, SERVER_CORE
from benchmarks.serving.contestants import ours_simulated
from benchmarks.serving.goals import Goal, goal_of
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.plan import WORKLOADS
from benchmarks.serving.protocols import with_grpc
from benchmarks.serving.report import goals_table, table
from benchmarks.serving.results import without_infinities
from benchmarks.serving.running_server import RunningServer, free_port
from service.commands.bench.generator import LoadGenerator
from service.commands.bench.summary import RequestOutcome, medians, outcome_of

CLIENTS = (1, 8)
MAX_RATIO = 1.03
"""Most of a latency with gRPC on and idle, as a multiple of that without."""

Grpc = Literal["off", "on, idle"]


@dataclass(frozen=True)
class IdleLoad:
    """One load, once.

    Attributes:
        grpc: whether the service has it.
        clients: requests in flight.
        turn: from 0.
        outcome: rates and latencies.
    """

    grpc: Grpc
    clients: int
    turn: int
    outcome: RequestOutcome


def main() -> None:
    # Exit cleanly, so that the server under test ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    parser = argparse.ArgumentParser(description="Measure what an idle gRPC costs HTTP.")
    parser.add_argument("--quick", action="store_true", help="a shorter run, for a look")
    parser.add_argument("--output", default="grpc-idle-cpu", help="name of the files in results/")
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    os.sched_setaffinity(0, {CLIENT_CORE})
    drawn = draw_payloads(WORKLOADS[0].width, WORKLOADS[0].height)
    turns, seconds = (1, 4.0) if arguments.quick else (11, 5.0)
    loads = [each for turn in range(turns) for each in measure_turn(drawn, turn, seconds)]
    command = shlex.join(["python", "-m", "benchmarks.serving.grpc_idle", *sys.argv[1:]])
    machine = describe_machine(load_at_start, os.cpu_count() or 1)
    goals = judge(loads)
    document = {
        "command": command,
        "machine": machine,
        "loads": [asdict(each) for each in loads],
        "goals": [asdict(goal) for goal in goals],
    }
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / f"{arguments.output}.json").write_text(
        json.dumps(without_infinities(document), indent=1) + "\n"
    )
    text = as_markdown(command, machine, loads, goals)
    (OUTPUT / f"{arguments.output}.md").write_text(text)
    print(text)


def measure_turn(drawn: Sequence[Payload], turn: int, seconds: float) -> list[IdleLoad]:
    """Start the service without gRPC and with it, and put each under the same loads."""
    order: tuple[Grpc, ...] = ("off", "on, idle") if turn % 2 == 0 else ("on, idle", "off")
    loads = []
    for grpc in order:
        contestant = ours_simulated()
        if grpc != "off":
            contestant = with_grpc(contestant, free_port())
        with RunningServer(contestant, drawn[0], str(SERVER_CORE)) as server:
            for clients in CLIENTS:
                load = LoadGenerator(server.target, drawn).closed_loop(clients, seconds)
                outcome = outcome_of(uvloop.run(load), seconds)
                loads.append(IdleLoad(grpc, clients, turn, outcome))
                print(loads[-1], file=sys.stderr)
    return loads


def turns_of(loads: Sequence[IdleLoad], grpc: Grpc, clients: int) -> list[RequestOutcome]:
    """Return the outcomes of a load, by turn."""
    found = [each for each in loads if (each.grpc, each.clients) == (grpc, clients)]
    return [each.outcome for each in sorted(found, key=lambda each: each.turn)]


def judge(loads: Sequence[IdleLoad]) -> list[Goal]:
    """Judge the latencies by the medians of the turns' ratios."""
    goals = []
    for clients in CLIENTS:
        pairs = list(
            zip(turns_of(loads, "on, idle", clients), turns_of(loads, "off", clients), strict=True)
        )
        p50 = median(on.p50_seconds / off.p50_seconds for on, off in pairs)
        p99 = median(on.p99_seconds / off.p99_seconds for on, off in pairs)
        for percentile, ratio in (("p50", p50), ("p99", p99)):
            what = f"{percentile}, gRPC on and idle / off, clients: {clients}"
            goals.append(goal_of(what, ("<=", MAX_RATIO, "{:.3f}"), ratio))
    return goals


def as_markdown(
    command: str, machine: dict[str, str], loads: Sequence[IdleLoad], goals: Sequence[Goal]
) -> str:
    """Write the report."""
    rows = []
    for clients in CLIENTS:
        for grpc in ("off", "on, idle"):
            found = medians(turns_of(loads, grpc, clients))
            latencies = (found.p50_seconds, found.p99_seconds)
            rows.append(
                (
                    grpc,
                    str(clients),
                    f"{found.answered_per_second:.1f}",
                    *(f"{1e3 * seconds:.2f}" for seconds in latencies),
                    f"{found.failed_fraction + found.refused_fraction:.1%}",
                )
            )
    heads = ("gRPC", "clients", "answered/s", "p50 ms", "p99 ms", "refused or failed")
    sections = [
        "# What an idle gRPC costs HTTP",
        f"`{command}`",
        "\n".join(f"- {fact}: {value}" for fact, value in machine.items()),
        f"`/v1/classify` with images of {WORKLOADS[0].name}. The service has one core, the load "
        "generator the other; the device\nis simulated: a batch of n takes 5 ms + 0.5 ms n. "
        "Closed loops; medians of the turns, each with a service of its own;\n"
        "a ratio is the median of the turns' ratios.",
        goals_table(goals),
        "## Loads\n\n" + table(heads, rows),
    ]
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    main()
