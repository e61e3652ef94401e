"""A rolling update of the real service behind real proxies, under requests all the time."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

from support.api_requests import JPEG, photo
from support.balancers import Balancer, RunningHaproxy, RunningNginx
from support.running_service import CLIENT, RunningService

REQUESTS_PER_SECOND = 30
PRE_STOP_SECONDS = 1.0
DELAY_SECONDS = 3


class Callers:
    """Requests at a steady rate while the block runs, each on a connection of its own.

    Args:
        url: of the proxy.

    Attributes:
        outcomes: the status of each request that has ended, or what went wrong.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/classify"
        self._photo = photo()
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(64)
        self._clock = threading.Thread(target=self._call)
        self.outcomes: list[int | str] = []

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._ended.set()
        self._clock.join()
        self._pool.shutdown()

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests have ended."""
        wanted, until = len(self.outcomes) + more, time.monotonic() + 60
        while len(self.outcomes) < wanted:
            assert time.monotonic() < until
            time.sleep(0.01)

    def _call(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._ended.is_set():
            self._pool.submit(self._one)
            sent += 1
            due = started + sent / REQUESTS_PER_SECOND
            self._ended.wait(max(0.0, due - time.monotonic()))

    def _one(self) -> None:
        try:
            answer = CLIENT.post(self._url, content=self._photo, headers=JPEG, timeout=60)
            self.outcomes.append(answer.status_code)
        except httpx.TransportError as error:
            self.outcomes.append(repr(error))


def start(**settings: str | int) -> RunningService:
    return RunningService(segment_model="off", detect_model="off", **settings)


@pytest.mark.parametrize("proxy", [RunningNginx, RunningHaproxy])
def test_a_rolling_update_fails_no_request(proxy: type[Balancer], tmp_path: Path) -> None:
    if not Path(proxy.program).exists():
        pytest.skip(f"{proxy.program} is missing; apt-get install nginx-light haproxy")
    with ExitStack() as services:
        told, noticed = start(), start(drain_delay_seconds=DELAY_SECONDS)
        for service in (told, noticed):
            services.enter_context(service)
        with (
            proxy(tmp_path, [told.port, noticed.port]) as balancer,
            Callers(balancer.url) as callers,
        ):
            new = start(), start()
            for service in new:
                services.enter_context(service)

            # With preStop: the proxy knows first, and SIGTERM comes behind the sleep.
            balancer.use([noticed.port, *(service.port for service in new)])
            time.sleep(PRE_STOP_SECONDS)
            assert told.stop() == 0

            # Without: SIGTERM comes first, and the proxy learns of it while the service serves.
            noticed.process.send_signal(signal.SIGTERM)
            if not balancer.asks_for_health:
                noticed.wait_for(lambda: noticed.get("/readyz").status_code == 503)
                balancer.use([service.port for service in new])
            assert noticed.process.wait(30) == 0
            callers.wait_for(REQUESTS_PER_SECOND)
        served = [service.metric("overlock_requests_total") for service in new]
    assert set(callers.outcomes) == {200}
    assert min(served) > 0
