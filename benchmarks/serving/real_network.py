"""A real network on the CPU, saturated: throughput over HTTP beside the bare engine's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import uvloop

from benchmarks.serving.contestants import ours_real
from benchmarks.serving.environments import REPOSITORY, checkout_environment
from benchmarks.serving.footprint import ENGINE
from benchmarks.serving.payload import Payload
from benchmarks.serving.processes import member_running, pin
from benchmarks.serving.running_server import RunningServer
from benchmarks.serving.scrape import get, sum_of
from benchmarks.serving.simulated_device import MAX_BATCH_SIZE
from service.commands.bench.generator import LoadGenerator, Sample

CONCURRENCY = 2 * MAX_BATCH_SIZE
"""A full batch on the device and another that waits."""

WARM_UP_SECONDS = 3.0


@dataclass(frozen=True)
class RealNetwork:
    """One network, over HTTP and bare, in turns.

    Attributes:
        model: its name and weights.
        placement: use of the cores, in words.
        batch_size: mean over HTTP; the bare engine ran it rounded.
        http_per_second: images over HTTP, median of the turns.
        bare_per_second: images of the bare engine, median of the turns.
        fraction: median of the turns' ratios.
    """

    model: str
    placement: str
    batch_size: float
    http_per_second: float
    bare_per_second: float
    fraction: float


def measure_real_network(
    model: str,
    weights: str,
    payloads: Sequence[Payload],
    *,
    engine_core: int,
    http_core: int,
    seconds: float,
    turns: int,
) -> RealNetwork:
    """Take turns: over HTTP, then bare on the engine's core, with one thread each."""
    pairs, batch_sizes = [], []
    for _ in range(turns):
        served, batch_size, dtype = _over_http(
            model, weights, payloads, engine_core, http_core, seconds
        )
        bare = _bare(model, weights, dtype, max(round(batch_size), 1), engine_core, seconds)
        print(
            f"{model}, engine on core {engine_core}, HTTP on {http_core}: {served:.2f}/s of "
            f"{bare:.2f}/s in batches of {batch_size:.1f}",
            file=sys.stderr,
        )
        pairs.append((served, bare))
        batch_sizes.append(batch_size)
    shared = engine_core == http_core
    return RealNetwork(
        model=f"{model}, {weights} weights",
        placement="all on one core" if shared else "the engine has a core of its own",
        batch_size=median(batch_sizes),
        http_per_second=median(served for served, _ in pairs),
        bare_per_second=median(bare for _, bare in pairs),
        fraction=median(served / bare for served, bare in pairs),
    )


def steady_per_second(samples: Sequence[Sample], warm_up_seconds: float, seconds: float) -> float:
    """Return answers a second, counted between two completions, since batches are few and long.

    Raises:
        ValueError: if there are too few answers.
    """
    completions = sorted(s.due_seconds + s.latency_seconds for s in samples if s.status == 200)
    before = [moment for moment in completions if moment <= warm_up_seconds]
    after = [moment for moment in completions if warm_up_seconds < moment <= seconds]
    if not before or not after:
        raise ValueError(f"{len(before)} answers during the warm-up and {len(after)} after it")
    return len(after) / (after[-1] - before[-1])


def _over_http(
    model: str,
    weights: str,
    payloads: Sequence[Payload],
    engine_core: int,
    http_core: int,
    seconds: float,
) -> tuple[float, float, str]:
    """Return images a second, the mean batch size, and the network's type."""
    contestant = ours_real(model, weights)
    cores = f"{engine_core},{http_core}"
    with RunningServer(contestant, payloads[0], cores, threads=1) as server:
        pin(server.family, http_core)
        pin([member_running(server.family, ENGINE)], engine_core)
        dtype = _dtype(server.port)
        before = _batches(server.port)
        generator = LoadGenerator(
            server.target, [replace(payload, class_id=None) for payload in payloads]
        )
        samples = uvloop.run(generator.closed_loop(CONCURRENCY, WARM_UP_SECONDS + seconds))
        after = _batches(server.port)
    images, batches = after[0] - before[0], after[1] - before[1]
    per_second = steady_per_second(samples, WARM_UP_SECONDS, WARM_UP_SECONDS + seconds)
    return per_second, images / batches, dtype


def _batches(port: int) -> tuple[float, float]:
    """Return the engine's counters of images and of batches."""
    text = get(port, "/metrics")
    return sum_of("overlock_batch_size_sum", text), sum_of("overlock_batch_size_count", text)


def _dtype(port: int) -> str:
    """Return the dtype of the only model, such as "float32"."""
    (model,) = json.loads(get(port, "/v1/models"))["models"]
    return str(model["dtype"])


def _bare(model: str, weights: str, dtype: str, batch: int, core: int, seconds: float) -> float:
    command = [
        *("taskset", "--cpu-list", str(core), sys.executable, "-m"),
        *("benchmarks.serving.bare_engine", "--model", model, "--weights", weights),
        *("--dtype", dtype, "--batch", str(batch), "--seconds", str(seconds)),
    ]
    environment = checkout_environment() | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE
    )
    return float(json.loads(finished.stdout))
