"""Attack on a running service with hostile requests, and its report.

``make fuzz``
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.running_service import RunningService

ROUND = 250
"""Requests between two readings of the worker's memory."""

CLIENTS = 4
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class HostileRequest:
    """A POST request as it is sent; a header may be given twice."""

    path: str
    body: bytes
    headers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Report:
    """The result of an attack.

    Attributes:
        statuses: how many answers there were of each.
        slowest_seconds: the longest that one took.
        memory_bytes: the HTTP worker's resident memory after each round.
        failed: the first requests whose answers were 5xx.
    """

    statuses: Counter[int]
    slowest_seconds: float
    memory_bytes: list[int]
    failed: list[HostileRequest]

    @property
    def growth_bytes_per_request(self) -> float:
        """Slope of the memory over the second half, when caches and arenas have filled."""
        late = self.memory_bytes[min(len(self.memory_bytes) // 2, len(self.memory_bytes) - 2) :]
        requests = [ROUND * number for number in range(len(late))]
        return statistics.linear_regression(requests, late).slope


def attack(service: RunningService, requests: Iterator[HostileRequest], count: int) -> Report:
    """Send requests, four at a time.

    Args:
        service: with one HTTP worker.
        requests: endless.
        count: how many; whole rounds are sent.
    """
    (worker,) = service.children("service.web.process")
    statuses, memory_bytes, slowest_seconds = Counter[int](), [], 0.0
    failed: list[HostileRequest] = []
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client, ThreadPoolExecutor(CLIENTS) as threads:

        def ask(request: HostileRequest) -> tuple[HostileRequest, int, float]:
            started = time.monotonic()
            headers = [(name.encode(), value.encode("latin-1")) for name, value in request.headers]
            answer = client.post(service.url + request.path, content=request.body, headers=headers)
            return request, answer.status_code, time.monotonic() - started

        for _ in range(0, count, ROUND):
            for request, status, seconds in threads.map(ask, itertools.islice(requests, ROUND)):
                statuses[status] += 1
                slowest_seconds = max(slowest_seconds, seconds)
                if status >= 500 and len(failed) < 10:
                    failed.append(request)
            memory_bytes.append(_resident_bytes(worker))
    return Report(statuses, slowest_seconds, memory_bytes, failed)


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])
