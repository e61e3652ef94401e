"""Measure reloads of a real service under load: memory, duration, what requests notice.

A service of OverLoCK-T with random weights gets requests at 70 % of its capacity, and is reloaded
several times. The memory is that which the engines share with no other process or file
(``RssAnon``), looked at all the time.

The floor of the memory: the weights of both generations, 4 bytes for each of 33 M parameters and
their forms for the CPU's kernels. The floor of the duration: an engine's start alone.

With ``--compile`` two models of one architecture are compiled in one engine instead, one after the
other, to see what the second one still costs.

    PYTHONPATH=.:tests python -m benchmarks.reloads
    PYTHONPATH=.:tests python -m benchmarks.reloads --compile
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import describe_machine
from service.processes.memory import own_bytes
from support.fault_clients import classify
from support.running_service import RunningService
from support.swapped_models import shown, start_reload

RESULTS = Path(__file__).parent / "results"
COMMAND = "PYTHONPATH=.:tests python -m benchmarks.reloads"
ENGINE = "service.engine.process"
MIB = 2**20
RELOADS = 5
SHARE = 0.7


@dataclass
class Watched:
    """Memory of a service's engines, looked at while a block runs.

    Attributes:
        peak_bytes: the most that all of them held together.
    """

    peak_bytes: int = 0


@dataclass
class Sent:
    """Latencies of requests, seconds, and how many were not answered 200."""

    seconds: list[float] = field(default_factory=list)
    failures: int = 0


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="overlock_t")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    load_at_start = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="reloads-") as folder:
        os.environ["TMPDIR"] = folder
        if arguments.compile:
            compile_twice(arguments.model, Path(folder))
            return
        report = reload_under_load(arguments.model)
    report = {
        "command": COMMAND,
        "machine": describe_machine(load_at_start, os.cpu_count() or 1),
        **report,
    }
    text = table(report)
    print(text)
    (RESULTS / "reloads-cpu.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "reloads-cpu.md").write_text(text)


def reload_under_load(model: str) -> dict[str, object]:
    """Reload a service again and again."""
    started = time.monotonic()
    with RunningService(
        classify_model=model,
        classify_weights="random",
        segment_model="off",
        http_workers=2,
        default_timeout_seconds=60,
    ) as service:
        start_seconds = time.monotonic() - started
        rate = SHARE * capacity(service)
        alone = own_bytes(service.children(ENGINE))
        before = Sent()
        with sent_at(service, rate, before):
            time.sleep(20)
        durations, peaks, during = [], [], Sent()
        for number in range(RELOADS):
            with sent_at(service, rate, during), watched(service) as memory:
                began = time.monotonic()
                outcome = start_reload().wait_for_outcome()
                assert outcome.returncode == 0, outcome.stderr
                durations.append(time.monotonic() - began)
                service.wait_for(lambda: len(service.children(ENGINE)) == 1)
            peaks.append(memory.peak_bytes)
            assert shown(service).generation == number + 2
        after = own_bytes(service.children(ENGINE))
    return {
        "model": model,
        "requests a second": round(rate, 2),
        "start of the service, s": round(start_seconds, 1),
        "reloads": RELOADS,
        "reload, s, median and longest": [
            round(statistics.median(durations), 1),
            round(max(durations), 1),
        ],
        "engine alone, MiB": round(alone / MIB),
        "both generations at most, MiB": round(max(peaks) / MIB),
        "engine after the last reload, MiB": round(after / MIB),
        "latency before, ms, median and p99": percentiles(before),
        "latency during reloads, ms, median and p99": percentiles(during),
        "requests before and during": [len(before.seconds), len(during.seconds)],
        "not answered 200": before.failures + during.failures,
    }


def capacity(service: RunningService) -> float:
    """Return the requests a second that a few clients get answered."""
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda _: classify(service), range(16)))  # all are warm
        started, count = time.monotonic(), 96
        answers = list(clients.map(lambda _: classify(service), range(count)))
        seconds = time.monotonic() - started
    assert {answer.status_code for answer in answers} == {200}
    return count / seconds


@contextmanager
def sent_at(service: RunningService, rate: float, sent: Sent) -> Iterator[None]:
    """Send requests at a rate while the block runs, and wait for their answers."""
    ended, lock = threading.Event(), threading.Lock()

    def send(due: float) -> None:
        status = classify(service).status_code
        with lock:
            sent.seconds.append(time.monotonic() - due)
            sent.failures += status != 200

    def arrive() -> None:
        started, number = time.monotonic(), 0
        while not ended.is_set():
            senders.submit(send, started + number / rate)
            number += 1
            ended.wait(max(started + number / rate - time.monotonic(), 0.0))

    with ThreadPoolExecutor(200) as senders:
        clock = threading.Thread(target=arrive)
        clock.start()
        try:
            yield
        finally:
            ended.set()
            clock.join()


@contextmanager
def watched(service: RunningService) -> Iterator[Watched]:
    """Look at the engines' memory while the block runs."""
    memory, ended = Watched(), threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            memory.peak_bytes = max(memory.peak_bytes, own_bytes(service.children(ENGINE)))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield memory
    finally:
        ended.set()
        looking.join()


def compile_twice(model: str, folder: Path) -> None:
    """Print the time in which each of two models of one architecture is made ready."""
    table = f'architecture = "{model}"\nweights = "random"\n'
    (folder / "models.toml").write_text(f"[first]\n{table}[second]\n{table}")
    compiling = RunningService(
        models_file=str(folder / "models.toml"),
        cache_dir=str(folder / "cache"),
        compile="on",
        max_batch_size=1,
    )
    compiling.start_seconds = 1800.0
    with compiling as service:
        starts = re.findall(
            r"^(\d+):(\d+):(\d+).* (starting|classify \w+: float32)", service.log, re.MULTILINE
        )
        moments = [3600 * int(h) + 60 * int(m) + int(s) for h, m, s, _ in starts]
        for (*_, what), earlier, later in zip(starts[1:], moments, moments[1:], strict=False):
            print(f"{what}: {later - earlier} s")


def percentiles(sent: Sent) -> list[float]:
    cuts = statistics.quantiles(sent.seconds, n=100)
    return [round(1e3 * statistics.median(sent.seconds)), round(1e3 * cuts[98])]


def table(report: dict[str, object]) -> str:
    lines = [f"`{report['command']}`", "", "| | |", "|--|--|"]
    facts = {name: value for name, value in report.items() if name not in {"command", "machine"}}
    for name, value in facts.items():
        shown_value = ", ".join(map(str, value)) if isinstance(value, list) else value
        lines.append(f"| {name} | {shown_value} |")
    lines += ["", "Machine:", ""]
    machine = report["machine"]
    assert isinstance(machine, dict)
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
