"""Several load generators at once: one Python process cannot send thousands of images a second.

Run as a program, it is one of them: it prints that it is ready, reads the span of time that counts,
and prints the numbers of its answers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO, Self, cast

import uvloop

from benchmarks.serving.environments import REPOSITORY, checkout_environment
from benchmarks.serving.payload import draw_payloads
from service.commands.bench.connection import Endpoint
from service.commands.bench.generator import ANSWER_SECONDS, LoadGenerator, Sample
from service.commands.bench.summary import REFUSALS

TAIL_SECONDS = 0.5
"""Seconds of load after the counted span, so that a snapshot at its end finds a busy server."""

END_SECONDS = ANSWER_SECONDS + 10
"""Seconds after the end of the load until which a generator has printed its numbers."""


@dataclass(frozen=True)
class Answers:
    """Numbers of a span's requests by their outcome.

    Attributes:
        answered: status 200, the last byte within the span.
        refused: sent within it, and answered 429 or 503.
        failed: sent within it, with another status or no answer.
    """

    answered: int
    refused: int
    failed: int


class LoadProcesses:
    """Load generators that are ready when entered, and gone when left.

    Args:
        target: a server on this machine.
        size: width and height of the images that are sent.
        processes: number of generators.
        concurrency: requests in flight of all generators together.
    """

    def __init__(
        self, target: Endpoint, size: tuple[int, int], *, processes: int, concurrency: int
    ) -> None:
        width, height = size
        command = [
            *("setpriv", "--pdeathsig", "KILL", sys.executable),
            *("-m", "benchmarks.serving.load_processes"),
            *("--port", str(target.port), "--path", target.path),
            *("--width", str(width), "--height", str(height)),
            *("--concurrency", str(max(concurrency // processes, 1))),
        ]
        self._processes = [
            subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=checkout_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]

    def __enter__(self) -> Self:
        try:
            for process in self._processes:
                _line_of(process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @property
    def pids(self) -> list[int]:
        """Process ids of the generators."""
        return [process.pid for process in self._processes]

    def begin(self, counted_from: float, until: float) -> None:
        """Let all generators send from now on.

        Args:
            counted_from: monotonic moment; requests before it warm the server up.
            until: monotonic moment; requests after it are not counted either.
        """
        for process in self._processes:
            stdin = cast("IO[str]", process.stdin)
            stdin.write(f"{counted_from} {until}\n")
            stdin.flush()

    def answers(self, until: float) -> Answers:
        """Wait for the end, and add up the generators' numbers.

        Args:
            until: monotonic moment, as passed to ``begin``.
        """
        counts = []
        for process in self._processes:
            left_seconds = max(until - time.monotonic(), 0.0) + END_SECONDS
            output, _ = process.communicate(timeout=left_seconds)
            counts.append(json.loads(output))
        names = ("answered", "refused", "failed")
        return Answers(**{name: sum(each[name] for each in counts) for name in names})


def count(samples: Sequence[Sample], started: float, counted_from: float, until: float) -> Answers:
    """Count the outcomes between two moments.

    Args:
        samples: of a load.
        started: moment of its start, by the same clock as the others.
        counted_from: moment.
        until: moment.
    """
    first, last = counted_from - started, until - started
    sent = [sample for sample in samples if first <= sample.due_seconds < last]
    return Answers(
        answered=sum(
            sample.status == 200 and first <= sample.due_seconds + sample.latency_seconds < last
            for sample in samples
        ),
        refused=sum(sample.status in REFUSALS for sample in sent),
        failed=sum(sample.status not in {200, *REFUSALS} for sample in sent),
    )


def _line_of(process: subprocess.Popen[str]) -> str:
    line: str = cast("IO[str]", process.stdout).readline()
    if not line:
        raise RuntimeError(f"a load generator ended with {process.wait()}")
    return line


def main() -> None:
    """Generate load by the arguments and by standard input."""
    parser = argparse.ArgumentParser(description="One of several load generators.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    drawn = draw_payloads(arguments.width, arguments.height)
    generator = LoadGenerator(
        Endpoint("127.0.0.1", arguments.port, arguments.path),
        [replace(payload, class_id=None) for payload in drawn],
    )
    print("ready", flush=True)
    counted_from, until = map(float, sys.stdin.readline().split())
    started = time.monotonic()
    samples = uvloop.run(
        generator.closed_loop(arguments.concurrency, until + TAIL_SECONDS - started)
    )
    print(json.dumps(asdict(count(samples, started, counted_from, until))))


if __name__ == "__main__":
    main()
