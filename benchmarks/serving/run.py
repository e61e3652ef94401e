"""Measure the service against its peers and against its own goals: one command, three files.

    python -m benchmarks.serving.run            # about an hour
    python -m benchmarks.serving.run --quick    # about ten minutes, less precise

Writes ``benchmarks/results/serving.json``, ``.md`` and ``.png``. Linux with at least two cores; the
peers are installed from pinned requirements, each into its own environment.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.serving.alone import (
    CLIENT_CORE,
    OVERLOAD_TIMEOUT_SECONDS,
    SERVER_CORE,
    measure_overloads,
    measure_real_networks,
)
from benchmarks.serving.contestants import (
    PEERS,
    RESPONDER,
    Contestant,
    as_documented,
    ours_real,
    ours_simulated,
)
from benchmarks.serving.curves import (
    JUDGED_CONCURRENCY,
    JUDGED_RATE,
    Measurement,
    Turn,
    measure_turn,
)
from benchmarks.serving.environments import environment_bin
from benchmarks.serving.footprint import Idleness, measure_idleness, measure_ours
from benchmarks.serving.goals import judge
from benchmarks.serving.ideal import compute_ideals
from benchmarks.serving.overload import DECODING_LIMITS, Overload, measure_overload
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.peer_work import decode
from benchmarks.serving.plan import QUICK, THOROUGH, WORKLOADS, Plan, Workload, rates_of
from benchmarks.serving.report import as_markdown
from benchmarks.serving.results import Results
from benchmarks.serving.running_server import ServerFailedError

OUTPUT = Path(__file__).parents[1] / "results"
DECODES = 200


def main() -> None:
    # Exit cleanly, so that the server under test ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    arguments = parse_arguments()
    plan = QUICK if arguments.quick else THOROUGH
    plan = replace(plan, repeats=arguments.repeats or plan.repeats)
    load_at_start = os.getloadavg()
    started = time.monotonic()
    peers = [each for each in PEERS if each.name not in arguments.skip]
    contestants, documented = [ours_simulated(), *peers], [*map(as_documented, peers)]
    for contestant in contestants:
        environment_bin(contestant.requirements)
    os.sched_setaffinity(0, {CLIENT_CORE})
    payloads = {each.name: draw_payloads(each.width, each.height) for each in WORKLOADS}
    heavy = payloads[WORKLOADS[0].name]
    failures: list[str] = []
    decode_seconds = {name: measure_decoding(images) for name, images in payloads.items()}
    generator = check_generator(heavy, plan)
    curves = measure_curves(contestants, payloads, plan, failures)
    curves += measure_documented(documented, payloads, plan, failures)
    demo_idleness, memory = measure_ours(ours_real("demo", "demo"), heavy[0], SERVER_CORE)
    results = Results(
        command=shlex.join(["python", "-m", "benchmarks.serving.run", *sys.argv[1:]]),
        machine={},
        notes={each.name: each.note for each in [*contestants, *documented]},
        payload_bytes={
            name: round(statistics.mean(len(image.body) for image in images))
            for name, images in payloads.items()
        },
        decode_seconds=decode_seconds,
        generator=generator,
        curves=curves,
        ideals=[
            ideal
            for workload in WORKLOADS
            for ideal in compute_ideals(workload, plan, decode_seconds[workload.name])
        ],
        idleness=[demo_idleness, *measure_all_idleness(contestants, heavy[0], failures)],
        memory=memory,
        overloads=[*measure_overloads(heavy, plan), overload_rival(heavy, plan)],
        real_networks=measure_real_networks(heavy, plan),
        failures=failures,
    )
    minutes = (time.monotonic() - started) / 60
    machine = describe_machine(load_at_start, os.cpu_count() or 1)
    machine |= describe_foreign_load(curves, minutes)
    write(replace(results, machine=machine), arguments.output)


def describe_foreign_load(curves: Sequence[Measurement], minutes: float) -> dict[str, str]:
    """Describe the load of other processes on the server's core, which distorts the numbers."""
    fractions = [each.foreign_core_fraction for each in curves]
    return {
        "the server's core, taken by others": f"median {statistics.median(fractions):.0%}, "
        f"worst {max(fractions):.0%} of a measurement's time",
        "duration": f"{minutes:.0f} minutes",
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the service against its peers.")
    parser.add_argument("--quick", action="store_true", help="a shorter run, for a look")
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=[each.name for each in PEERS], metavar="PEER"
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="turns of every contestant")
    parser.add_argument("--output", default="serving", help="name of the files in results/")
    return parser.parse_args()


def measure_decoding(payloads: Sequence[Payload]) -> float:
    """Return the processor time of decoding and resizing one image, the median."""
    seconds = []
    for turn in range(DECODES):
        started = time.thread_time()
        decode(payloads[turn % len(payloads)].body)
        seconds.append(time.thread_time() - started)
    return statistics.median(seconds)


def check_generator(payloads: Sequence[Payload], plan: Plan) -> list[Measurement]:
    """Measure the load generator against a responder that does nothing."""
    body = [Payload(payloads[0].body, class_id=0)]
    turn = Turn(RESPONDER, body, "any", 0, (300, 1000), plan.seconds, SERVER_CORE)
    return measure_turn(turn)


def measure_curves(
    contestants: Sequence[Contestant],
    payloads: dict[str, list[Payload]],
    plan: Plan,
    failures: list[str],
) -> list[Measurement]:
    """Let the contestants take turns; note a peer's failure, raise our own."""
    measurements: list[Measurement] = []
    for repeat in range(plan.repeats):
        for workload in WORKLOADS:
            for contestant in contestants:
                turn = turn_of(contestant, workload, payloads, plan, repeat)
                measurements += measure_or_note(turn, failures)
    return measurements


def measure_documented(
    contestants: Sequence[Contestant],
    payloads: dict[str, list[Payload]],
    plan: Plan,
    failures: list[str],
) -> list[Measurement]:
    """Measure what a user of a peer's documentation would meet: once, under the judged loads."""
    measurements: list[Measurement] = []
    for workload in WORKLOADS:
        for contestant in contestants:
            turn = turn_of(contestant, workload, payloads, plan)
            judged = replace(turn, rates=(JUDGED_RATE,), concurrencies=(JUDGED_CONCURRENCY,))
            measurements += measure_or_note(judged, failures)
    return measurements


def turn_of(
    contestant: Contestant,
    workload: Workload,
    payloads: dict[str, list[Payload]],
    plan: Plan,
    repeat: int = 0,
) -> Turn:
    """Return a contestant's turn under all loads of a plan."""
    return Turn(
        contestant,
        payloads[workload.name],
        workload.name,
        repeat,
        rates_of(workload, plan),
        plan.seconds,
        SERVER_CORE,
    )


def measure_or_note(turn: Turn, failures: list[str]) -> list[Measurement]:
    """Measure a turn; note a peer's failure, raise our own."""
    try:
        return measure_turn(turn)
    except ServerFailedError as error:
        note_failure(turn.contestant, error, failures)
        return []


def measure_all_idleness(
    contestants: Sequence[Contestant], payload: Payload, failures: list[str]
) -> list[Idleness]:
    """Measure the processor time of every idle contestant."""
    idleness = []
    for contestant in contestants:
        try:
            idleness.append(measure_idleness(contestant, payload, SERVER_CORE))
        except ServerFailedError as error:
            note_failure(contestant, error, failures)
    return idleness


def note_failure(contestant: Contestant, error: ServerFailedError, failures: list[str]) -> None:
    """Note a peer's failure.

    Raises:
        ServerFailedError: if it is ours.
    """
    if contestant.requirements is None:
        raise error
    failures.append(str(error).partition("\n")[0])
    print(error, file=sys.stderr)


def overload_rival(payloads: Sequence[Payload], plan: Plan) -> Overload:
    """Overload the strongest peer in the same way as the service."""
    return measure_overload(
        PEERS[0],
        payloads,
        device=DECODING_LIMITS,
        seconds=plan.overload_seconds,
        core=SERVER_CORE,
    )


def write(results: Results, name: str) -> None:
    """Write the three files and print the table."""
    OUTPUT.mkdir(exist_ok=True)
    data, plot, table = (OUTPUT / f"{name}.{kind}" for kind in ("json", "png", "md"))
    data.write_text(results.as_json())
    python = environment_bin("plot") / "python"
    command = [str(python), "-m", "benchmarks.serving.plot", str(data), str(plot)]
    repository = OUTPUT.parents[1]
    subprocess.run(
        command, cwd=repository, env=os.environ | {"PYTHONPATH": str(repository)}, check=True
    )
    text = as_markdown(results, judge(results, OVERLOAD_TIMEOUT_SECONDS), plot.name)
    table.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
