"""Attack on a running service with damaged images, and its report.

``make fuzz``
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.image_mutations import mutations
from support.running_service import RunningService

ROUND = 250
"""Images between two readings of the worker's memory."""

CLIENTS = 4
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Report:
    """The result of an attack.

    Attributes:
        statuses: how many answers there were of each.
        slowest_seconds: the longest that one took.
        memory_bytes: the HTTP worker's resident memory after each round.
    """

    statuses: Counter[int]
    slowest_seconds: float
    memory_bytes: list[int]

    @property
    def growth_bytes_per_image(self) -> float:
        """Slope of the memory over the second half, when caches and arenas have filled."""
        late = self.memory_bytes[len(self.memory_bytes) // 2 :]
        images = [ROUND * number for number in range(len(late))]
        return statistics.linear_regression(images, late).slope


def attack(service: RunningService, count: int, seed: int) -> Report:
    """Classify damaged images, four at a time.

    Args:
        service: with one HTTP worker.
        count: how many; whole rounds are sent.
        seed: of the damage.
    """
    (worker,) = service.children("service.web.process")
    bodies, statuses, memory_bytes, slowest_seconds = mutations(seed), Counter[int](), [], 0.0
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client, ThreadPoolExecutor(CLIENTS) as threads:

        def ask(body: bytes) -> tuple[int, float]:
            started = time.monotonic()
            headers = {"Content-Type": "application/octet-stream"}
            answer = client.post(f"{service.url}/v1/classify", content=body, headers=headers)
            return answer.status_code, time.monotonic() - started

        for _ in range(0, count, ROUND):
            for status, seconds in threads.map(ask, itertools.islice(bodies, ROUND)):
                statuses[status] += 1
                slowest_seconds = max(slowest_seconds, seconds)
            memory_bytes.append(_resident_bytes(worker))
    return Report(statuses, slowest_seconds, memory_bytes)


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def main() -> None:
    """Start a service, attack it and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with RunningService(segment_model="off", default_timeout_seconds=50) as service:
        report = attack(service, arguments.count, arguments.seed)
    print(f"answers: {dict(sorted(report.statuses.items()))}")
    print(f"slowest: {report.slowest_seconds:.2f} s")
    megabytes = [f"{size / 2**20:.0f}" for size in report.memory_bytes]
    print(f"HTTP worker's memory after every {ROUND}: {', '.join(megabytes)} MB")
    print(f"growth over the second half: {report.growth_bytes_per_image:.0f} bytes an image")


if __name__ == "__main__":
    main()
