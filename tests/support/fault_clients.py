"""Clients of a service under test, which send one request or send all the time."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
from PIL import Image

from support.running_service import CLIENT, START_SECONDS, RunningService

# What an image of this colour does to the device; see injection/sitecustomize.py.
POISON, NEVER_FITS, FITS_IN_TWOS = (255, 0, 0), (255, 128, 0), (255, 255, 0)
LOSES_DEVICE, CRASHES, HANGS, SLOW = (0, 0, 255), (255, 0, 255), (0, 255, 255), (0, 255, 0)
HARMLESS = (90, 120, 200)

Colour = tuple[int, int, int]


def picture(colour: Colour) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def classify(service: RunningService, colour: Colour = HARMLESS, query: str = "") -> httpx.Response:
    """Classify an image, over a connection of its own."""
    return CLIENT.post(
        f"{service.url}/v1/classify{query}",
        content=picture(colour),
        headers={"Content-Type": "image/png"},
        timeout=90,
    )


def classify_together(service: RunningService, colours: Sequence[Colour]) -> list[httpx.Response]:
    """Classify images that wait together behind a slow one, so that they share a batch."""
    with ThreadPoolExecutor(len(colours) + 1) as threads:
        slow = threads.submit(classify, service, SLOW)
        service.wait_for(lambda: only_the_device_is_busy(service))
        answers = [threads.submit(classify, service, colour) for colour in colours]
        assert slow.result().status_code == 200
        return [answer.result() for answer in answers]


def only_the_device_is_busy(service: RunningService) -> bool:
    pending_seconds = service.metric("overlock_pending_work_seconds")
    return pending_seconds > 0 and service.metric("overlock_queue_requests") == 0


class Load:
    """Clients that ask one request after the other; ``failures`` are all that were not 200."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._asked: dict[int, RunningService] = {}
        self.outcomes: Counter[str] = Counter()
        self.stopped = False
        self._lock = threading.Lock()

    @property
    def answered(self) -> int:
        return self.outcomes["200"]

    @property
    def failures(self) -> dict[str, int]:
        return {what: count for what, count in self.outcomes.items() if what != "200"}

    def wait_for_answers(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        wanted, until = self.answered + count, time.monotonic() + START_SECONDS
        while self.answered < wanted:
            assert time.monotonic() < until, f"waited in vain: {self.outcomes}"
            time.sleep(0.01)

    def move_to(self, service: RunningService) -> None:
        """Have all clients ask another service, and return when none asks the old one any more."""
        self._service = service
        service.wait_for(lambda: set(self._asked.values()) == {service})

    def ask(self) -> None:
        while not self.stopped:
            service = self._asked[threading.get_ident()] = self._service
            try:
                outcome = str(classify(service).status_code)
            except httpx.TransportError as error:
                outcome = type(error).__name__
            with self._lock:
                self.outcomes[outcome] += 1


@contextmanager
def load(service: RunningService, clients: int = 6) -> Iterator[Load]:
    """Keep clients sending requests while the block runs."""
    running = Load(service)
    with ThreadPoolExecutor(clients) as threads:
        sending = [threads.submit(running.ask) for _ in range(clients)]
        try:
            yield running
        finally:
            running.stopped = True
    for each in sending:
        each.result()
