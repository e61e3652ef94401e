"""Simulate whether holding a batch back for requests in decode pays.

A simulation on a virtual clock: two decoding threads, one device that takes 5 ms + 0.5 ms for each
image, and the service's scheduler. *Greedy* launches as soon as the device is free. *Held* waits
while requests are known to be in decode, at most as long as batching them saves: the fixed cost.

    python benchmarks/holding.py
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from model.config import Operation, Task
from service.engine.scheduling.cost_model import batch_sizes_up_to
from service.engine.scheduling.queues import QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler

FIXED_SECONDS, IMAGE_SECONDS = 0.005, 0.0005
THREADS = 2
SHAPE = QueueKey(Operation("net", Task.CLASSIFY), (224, 224))
SIZES = batch_sizes_up_to(16)
REQUESTS = 20_000


@dataclass
class Simulation:
    """One run; ``latencies`` count from a request's arrival to its batch's end, seconds.

    Args:
        decode_seconds: a thread's mean time for an image; each takes half to one and a half of it.
        longest_hold_seconds: 0 for greedy.
    """

    decode_seconds: float
    longest_hold_seconds: float
    now: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(7)
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._to_decode: list[float] = []
        self._decoding = 0
        self._device_busy = False
        self._held_since: float | None = None
        self._again: Callable[[], None] | None = None
        self._arrived = 0
        self._scheduler: Scheduler[float] = Scheduler(
            clock=lambda: self.now, max_waiting=10**9, batch_sizes=SIZES
        )
        for size in SIZES:
            self._scheduler.learn(SHAPE, size, FIXED_SECONDS + IMAGE_SECONDS * size)

    def open_loop(self, rate: float) -> None:
        """Let requests arrive at random, independently of the answers."""
        at = 0.0
        for _ in range(REQUESTS):
            at += self._chance.expovariate(rate)
            self._at(at, self._arrive)
        self._run()

    def closed_loop(self, clients: int) -> None:
        """Let each client send its next request as soon as it is answered."""
        self._again = self._arrive
        for _ in range(clients):
            self._at(0.0, self._arrive)
        self._run()

    def _at(self, moment: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), happen))

    def _run(self) -> None:
        while self._events and len(self.latencies) < REQUESTS:
            self.now, _, happen = heapq.heappop(self._events)
            happen()

    def _arrive(self) -> None:
        self._to_decode.append(self.now)
        self._decode()

    def _decode(self) -> None:
        while self._to_decode and self._decoding < THREADS:
            arrived = self._to_decode.pop(0)
            self._decoding += 1
            seconds = self.decode_seconds * self._chance.uniform(0.5, 1.5)
            self._at(self.now + seconds, lambda arrived=arrived: self._decoded(arrived))  # type: ignore[misc]

    def _decoded(self, arrived: float) -> None:
        self._decoding -= 1
        self._arrived += 1
        self._scheduler.admit(Request(self._arrived, SHAPE, self.now, self.now + 1e6, arrived))
        self._decode()
        self._start_batch()

    def _start_batch(self) -> None:
        waiting = self._scheduler.waiting
        if self._device_busy or not waiting:
            return
        if self._held_since is None:
            self._held_since = self.now
        until = self._held_since + self.longest_hold_seconds
        if self._decoding and waiting < SIZES[-1] and self.now < until:
            self._at(until, self._start_batch)
            return
        self._held_since = None
        batch = self._scheduler.next_batch()
        assert batch is not None
        self._device_busy = True
        seconds = FIXED_SECONDS + IMAGE_SECONDS * batch.size

        def finish() -> None:
            self._device_busy = False
            self._scheduler.finished(batch, seconds, seconds)
            for request in batch.requests:
                self.latencies.append(self.now - request.payload)
                if self._again is not None:
                    self._again()
            self._start_batch()

        self._at(self.now + seconds, finish)


def main() -> None:
    """Print one line for each kind of load: greedy against held."""
    print("| load | decode | greedy p50, p99, rate | held p50, p99, rate |\n|--|--|--|--|")
    for decode_seconds in (0.0025, 0.006):
        loads: list[tuple[str, Callable[[Simulation], None]]] = [
            *(
                (f"open, {share:.0%} of what decodes", open_at(share * THREADS / decode_seconds))
                for share in (0.1, 0.3, 0.6, 0.9)
            ),
            *((f"closed, {clients} clients", closed_with(clients)) for clients in (2, 8, 32)),
        ]
        for name, drive in loads:
            cells = []
            for hold_seconds in (0.0, FIXED_SECONDS):
                simulation = Simulation(decode_seconds, hold_seconds)
                drive(simulation)
                cuts = statistics.quantiles(simulation.latencies, n=100)
                rate = len(simulation.latencies) / simulation.now
                cells.append(f"{cuts[49] * 1e3:.1f} ms, {cuts[98] * 1e3:.1f} ms, {rate:.0f}/s")
            print(f"| {name} | {decode_seconds * 1e3:g} ms | {' | '.join(cells)} |")


def open_at(rate: float) -> Callable[[Simulation], None]:
    """Return a function that drives a simulation by random arrivals."""
    return lambda simulation: simulation.open_loop(rate)


def closed_with(clients: int) -> Callable[[Simulation], None]:
    """Return a function that drives a simulation by clients that wait."""
    return lambda simulation: simulation.closed_loop(clients)


if __name__ == "__main__":
    main()
