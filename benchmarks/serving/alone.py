"""Measure the service against its own goals, without peers: overload, real networks, idleness.

    python -m benchmarks.serving.alone                    # about a quarter of an hour
    python -m benchmarks.serving.alone --only overload    # or real-network, or footprint
    python -m benchmarks.serving.alone --quick            # shorter and less precise

Writes ``benchmarks/results/serving-alone.json`` and ``.md``. Linux with at least two cores.
``benchmarks.serving.run`` measures the same beside the peers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.serving.contestants import ours_real, ours_simulated
from benchmarks.serving.footprint import measure_ours
from benchmarks.serving.goals import judge_alone
from benchmarks.serving.overload import DECODING_LIMITS, Overload, measure_overload
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.plan import QUICK, THOROUGH, WORKLOADS, Plan
from benchmarks.serving.real_network import RealNetwork, measure_real_network
from benchmarks.serving.report import alone_as_markdown
from benchmarks.serving.results import AloneResults
from benchmarks.serving.simulated_device import DeviceCost

OUTPUT = Path(__file__).parents[1] / "results"
SERVER_CORE, CLIENT_CORE = 0, 1
PARTS = ("overload", "real-network", "footprint")

OVERLOAD_TIMEOUT_SECONDS = 1.0
"""Timeout of requests in an overload. The backlog at its end is worked off while half the capacity
is requested again, which takes almost twice the timeout with any scheduler."""

SLOW_DEVICE = DeviceCost(fixed_seconds=0.1, per_image_seconds=0.01)
"""60 images a second: the device is the limit, not the core that decodes."""

REAL_NETWORKS = (("demo", "demo"), ("overlock_xt", "random"))


def main() -> None:
    # Exit cleanly, so that the server under test ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    arguments = parse_arguments()
    plan = QUICK if arguments.quick else THOROUGH
    load_at_start = os.getloadavg()
    os.sched_setaffinity(0, {CLIENT_CORE})
    payloads = draw_payloads(WORKLOADS[0].width, WORKLOADS[0].height)
    footprint = None
    if "footprint" in arguments.only:
        footprint = measure_ours(ours_real("demo", "demo"), payloads[0], SERVER_CORE)
    results = AloneResults(
        command=shlex.join(["python", "-m", "benchmarks.serving.alone", *sys.argv[1:]]),
        machine=describe_machine(load_at_start, os.cpu_count() or 1),
        idleness=[footprint[0]] if footprint else [],
        memory=footprint[1] if footprint else None,
        overloads=measure_overloads(payloads, plan) if "overload" in arguments.only else [],
        real_networks=(
            measure_real_networks(payloads, plan) if "real-network" in arguments.only else []
        ),
    )
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / f"{arguments.output}.json").write_text(results.as_json())
    text = alone_as_markdown(results, judge_alone(results, OVERLOAD_TIMEOUT_SECONDS))
    (OUTPUT / f"{arguments.output}.md").write_text(text)
    print(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the service against its own goals.")
    parser.add_argument("--quick", action="store_true", help="a shorter run, for a look")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--output", default="serving-alone", help="name of the files in results/")
    return parser.parse_args()


def measure_overloads(payloads: Sequence[Payload], plan: Plan) -> list[Overload]:
    """Overload the service where the device is the limit, and where the core is."""
    cases = (
        (SLOW_DEVICE, "100 ms + 10 ms n: the device limits"),
        (DeviceCost(), DECODING_LIMITS),
    )
    return [
        measure_overload(
            ours_simulated(cost, OVERLOAD_TIMEOUT_SECONDS),
            payloads,
            device=words,
            seconds=plan.overload_seconds,
            core=SERVER_CORE,
        )
        for cost, words in cases
    ]


def measure_real_networks(payloads: Sequence[Payload], plan: Plan) -> list[RealNetwork]:
    """Saturate real networks, with the engine on a core of its own and with one core for all."""
    return [
        measure_real_network(
            model,
            weights,
            payloads,
            engine_core=SERVER_CORE,
            http_core=http_core,
            seconds=plan.real_seconds,
            turns=plan.real_turns,
        )
        for model, weights in REAL_NETWORKS
        for http_core in (CLIENT_CORE, SERVER_CORE)
    ]


if __name__ == "__main__":
    main()
