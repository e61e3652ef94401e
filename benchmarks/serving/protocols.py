"""The service's protocols side by side: ``/v1``, ``/v2`` with binary tensors, and gRPC.

    python -m benchmarks.serving.protocols            # about eleven minutes
    python -m benchmarks.serving.protocols --quick    # two minutes, less precise

Writes ``benchmarks/results/protocols-cpu.json`` and ``.md``. The service has one core and the
simulated device, the load generator the other core. One service answers all protocols; their loads
take turns, and a ratio is of two loads of the same turn.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import uvloop

from benchmarks.machine import describe_machine
from benchmarks.serving.alone import CLIENT_CORE, OUTPUT, SERVER_CORE
from benchmarks.serving.contestants import Contestant, ours_simulated
from benchmarks.serving.infer_payload import (
    first_tensor_of_grpc,
    first_tensor_of_rest,
    infer_payloads,
)
from benchmarks.serving.payload import Payload, draw_payloads
from benchmarks.serving.plan import WORKLOADS
from benchmarks.serving.processes import core_busy_seconds, cpu_seconds
from benchmarks.serving.protocols_report import (
    CLIENTS,
    CLIENTS_OF_MANY,
    MANY_IMAGES,
    ProtocolLoad,
    ProtocolResults,
    Subject,
)
from benchmarks.serving.real_network import steady_per_second
from benchmarks.serving.running_server import RunningServer, free_port
from model.config import Task
from service.commands.bench import generator
from service.commands.bench.connection import Endpoint
from service.commands.bench.generator import LoadGenerator, LoadTarget
from service.commands.bench.grpc_connection import GrpcEndpoint
from service.commands.bench.protocols import OUTPUTS, InferEndpoint, ProtocolName
from service.commands.bench.summary import outcome_of

MODEL = "overlock_t"
"""The name of the simulated model."""

TIMEOUT_SECONDS = 60.0
"""Timeout of a request; with many clients and images it waits for seconds."""

PLACES = 2 * max(CLIENTS_OF_MANY) * MANY_IMAGES
"""Images for which the service gets places: twice those that are under way at once."""


@dataclass(frozen=True)
class Span:
    """The length of a load.

    Attributes:
        warm_up_seconds: at its start, which do not count.
        seconds: all of it.
    """

    warm_up_seconds: float
    seconds: float


@dataclass(frozen=True)
class Spans:
    """The thoroughness of a run.

    Attributes:
        turns: of each load.
        usual: of a load.
        long: of the load with the most images under way, which takes seconds to answer any.
    """

    turns: int
    usual: Span
    long: Span

    def of(self, subject: Subject, clients: int) -> Span:
        """Return the span of a load."""
        busiest = subject.images > 1 and clients == max(CLIENTS_OF_MANY)
        return self.long if busiest else self.usual


THOROUGH = Spans(5, Span(1.0, 8.0), Span(5.0, 20.0))
QUICK = Spans(1, Span(1.0, 3.0), Span(6.0, 12.0))


@dataclass(frozen=True)
class Route:
    """A route of the running service with what is sent to it.

    Attributes:
        subject: protocol and images in a request.
        target: the route.
        payloads: sent in turn.
    """

    subject: Subject
    target: LoadTarget
    payloads: Sequence[generator.Payload]


def main() -> None:
    # Exit cleanly, so that the server under test ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    arguments = parse_arguments()
    load_at_start = os.getloadavg()
    os.sched_setaffinity(0, {CLIENT_CORE})
    (workload,) = (each for each in WORKLOADS if each.name == arguments.workload)
    drawn = draw_payloads(workload.width, workload.height)
    spans = QUICK if arguments.quick else THOROUGH
    results = ProtocolResults(
        command=shlex.join(["python", "-m", "benchmarks.serving.protocols", *sys.argv[1:]]),
        workload=workload.name,
        turns=spans.turns,
        loads=measure(drawn, spans),
        machine=describe_machine(load_at_start, os.cpu_count() or 1),
    )
    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / f"{arguments.output}.json").write_text(results.as_json())
    (OUTPUT / f"{arguments.output}.md").write_text(results.as_markdown())
    print(results.as_markdown())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the service's protocols side by side.")
    parser.add_argument("--quick", action="store_true", help="a shorter run, for a look")
    names = [each.name for each in WORKLOADS]
    parser.add_argument("--workload", choices=names, default=names[0], help="size of the images")
    parser.add_argument("--output", default="protocols-cpu", help="name of the files in results/")
    return parser.parse_args()


def with_grpc(contestant: Contestant, port: int) -> Contestant:
    """Return the service with gRPC on a port."""
    variables = {**contestant.variables, "OVERLOCK_GRPC_PORT": str(port)}
    return replace(contestant, variables=variables)


def measure(drawn: Sequence[Payload], spans: Spans) -> list[ProtocolLoad]:
    """Put one service under every load of every protocol, in turns."""
    grpc_port = free_port()
    contestant = with_grpc(ours_simulated(timeout_seconds=TIMEOUT_SECONDS), grpc_port)
    variables = {**contestant.variables, "OVERLOCK_MAX_QUEUE_REQUESTS": str(PLACES)}
    loads = []
    with RunningServer(
        replace(contestant, variables=variables), drawn[0], str(SERVER_CORE)
    ) as server:
        routes = [
            route_of(server, grpc_port, drawn, protocol, images)
            for images in (1, MANY_IMAGES)
            for protocol in (("v1", "v2", "grpc") if images == 1 else ("v2", "grpc"))
        ]
        for turn in range(spans.turns):
            for clients in CLIENTS:
                able = [
                    route
                    for route in routes
                    if route.subject.images == 1 or clients in CLIENTS_OF_MANY
                ]
                # Every turn begins with another one: a drift of the machine hits each alike.
                for place in range(len(able)):
                    route = able[(place + turn) % len(able)]
                    span = spans.of(route.subject, clients)
                    loads.append(measure_load(server, route, turn, clients, span))
    return loads


def route_of(
    server: RunningServer,
    grpc_port: int,
    drawn: Sequence[Payload],
    protocol: ProtocolName,
    images: int,
) -> Route:
    """Return a protocol's route of the running service."""
    subject = Subject(protocol, images)
    if protocol == "v1":
        return Route(subject, server.target, drawn)
    outputs = OUTPUTS[Task.CLASSIFY]
    if protocol == "v2":
        endpoint = Endpoint("127.0.0.1", server.port, f"/v2/models/{MODEL}/infer")
        target = InferEndpoint(endpoint, outputs, images, TIMEOUT_SECONDS)
        return Route(subject, target, infer_payloads(drawn, images, first_tensor_of_rest))
    channel = GrpcEndpoint("127.0.0.1", grpc_port, MODEL, outputs, images, TIMEOUT_SECONDS)
    return Route(subject, channel, infer_payloads(drawn, images, first_tensor_of_grpc))


def measure_load(
    server: RunningServer, route: Route, turn: int, clients: int, span: Span
) -> ProtocolLoad:
    """Keep requests of a protocol in flight and measure them."""
    cpu_before, core_before = cpu_seconds(server.family), core_busy_seconds(SERVER_CORE)
    started = time.perf_counter()
    load = LoadGenerator(route.target, route.payloads).closed_loop(clients, span.seconds)
    samples = uvloop.run(load)
    elapsed_seconds = time.perf_counter() - started
    own_seconds = cpu_seconds(server.family) - cpu_before
    foreign_seconds = core_busy_seconds(SERVER_CORE) - core_before - own_seconds
    images = route.subject.images * sum(sample.status == 200 for sample in samples)
    measured = ProtocolLoad(
        subject=route.subject,
        clients=clients,
        turn=turn,
        outcome=outcome_of(samples, span.seconds, warm_up_seconds=span.warm_up_seconds),
        images_per_second=route.subject.images
        * steady_per_second(samples, span.warm_up_seconds, span.seconds),
        cpu_seconds_per_image=own_seconds / max(images, 1),
        foreign_core_fraction=min(max(foreign_seconds / elapsed_seconds, 0.0), 1.0),
    )
    print(measured, file=sys.stderr)
    return measured


if __name__ == "__main__":
    main()
