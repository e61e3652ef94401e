"""Time from the start of a process to its first answer, with full compiler caches.

Run as a program, it is that process: it prepares the network as an engine does, and prints when it
could have answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

STARTED = time.perf_counter()  # before the packages are imported: that is part of a start

import torch  # noqa: E402

from benchmarks.on_gpu.bench import Bench, Row  # noqa: E402
from benchmarks.on_gpu.networks import trained  # noqa: E402
from benchmarks.serving.environments import REPOSITORY, checkout_environment  # noqa: E402
from model.inference.batch_limits import fitting_batch_sizes  # noqa: E402
from model.inference.predictor import Predictor  # noqa: E402
from model.lowering.folding import fold  # noqa: E402

MOST_SECONDS = 60.0
BATCHES = (1, 16, 64)
"""Those of ``benchmarks.on_gpu.served``, whose compiled code is in the caches."""


def rows(bench: Bench) -> Iterator[Row]:
    yield _start(bench)


def _start(bench: Bench) -> Row:
    environment = checkout_environment()  # this process's caches too
    program = ["setpriv", "--pdeathsig", "KILL", sys.executable]
    program += ["-m", "benchmarks.on_gpu.starts", str(bench.device)]
    start = time.perf_counter()
    run = subprocess.run(
        [*program, "quick"] if bench.quick else program,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"The process failed: {run.stderr[-1000:]}")
    facts: Row = json.loads(run.stdout.splitlines()[-1])
    return facts | {"process s": time.perf_counter() - start}


def _get_ready(bench: Bench) -> Row:
    name, side = ("nano", 64) if bench.quick else ("overlock_t", 224)
    imported = time.perf_counter() - STARTED
    network = fold(trained(name))
    predictor = Predictor(network, bench.device, bench.fast_dtype, compiler=bench.compiler)
    fitting = fitting_batch_sizes(predictor, (1,) if bench.quick else BATCHES, [(side, side)])
    return {
        "model": name,
        "batches": ", ".join(map(str, fitting)),
        "imported after s": imported,
        "ready after s": time.perf_counter() - STARTED,
    }


if __name__ == "__main__":
    tried = Bench(torch.device(sys.argv[1]), quick="quick" in sys.argv[2:])
    tried.set_up()
    sys.stdout.write(json.dumps(_get_ready(tried)) + "\n")
