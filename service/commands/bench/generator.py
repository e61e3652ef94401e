"""The load generator: open loop for latencies, closed loop for throughput.

In the open loop requests are due at moments fixed beforehand, however slow the server is, and a
latency counts from that moment: a stall counts for every request that was due meanwhile. Both
loops are bounded in count and time, and both check every answer.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from service.commands.bench.connection import RawAnswer

ANSWER_SECONDS = 10.0

MAX_CONNECTIONS = 4096
SPIN_SECONDS = 0.002
"""Part of a wait that is polled: the event loop's timers are precise to about a millisecond."""

NO_ANSWER = 0
"""Status of a request whose connection broke, or that was not answered in time."""

Ended = TypeVar("Ended")


class Payload(Protocol):
    """A request's body, and the check of its answer; ``str`` describes the expected answer."""

    @property
    def body(self) -> bytes:
        """The request's body."""

    @property
    def media_type(self) -> str:
        """The body's media type."""

    def is_answered_by(self, answer: bytes) -> bool:
        """Return whether the body of an answer with status 200 is right."""


class TargetConnection(Protocol):
    """Exchanges one request at a time."""

    @property
    def idle(self) -> bool:
        """Whether the last answer is complete."""

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""

    async def exchange(self, request: bytes) -> RawAnswer:
        """Send a request and return its answer.

        Raises:
            OSError: if there is none.
        """

    async def close(self) -> None:
        """Close the connection."""


class LoadTarget(Protocol):
    """A route of a server, by one of its protocols."""

    def request(self, body: bytes, media_type: str) -> bytes:
        """Return a complete request, as a connection exchanges it."""

    async def open(self) -> TargetConnection:
        """Open a connection.

        Raises:
            OSError: if nothing listens there.
        """


class WrongAnswerError(Exception):
    """An answer is not its request's result, so that nothing can be measured."""


@dataclass(frozen=True)
class Sample:
    """Outcome of one request.

    Attributes:
        due_seconds: when it was due, since the run's start; in a closed loop, when it was sent.
        sent_seconds: when it was sent, since the run's start.
        latency_seconds: from ``due_seconds`` to the answer's last byte; infinite without one.
        status: of HTTP, or NO_ANSWER.
    """

    due_seconds: float
    sent_seconds: float
    latency_seconds: float
    status: int


def poisson_arrivals(per_second: float, seconds: float, seed: int) -> list[float]:
    """Return the moments of a Poisson process, seconds since its start."""
    random = np.random.default_rng(seed)
    count = math.ceil(2 * per_second * seconds) + 100
    moments = np.cumsum(random.exponential(1 / per_second, count))
    return [float(moment) for moment in moments[moments < seconds]]


class LoadGenerator:
    """Sends the payloads in turn to one server.

    Args:
        target: route to which they are sent.
        payloads: the requests' bodies, with the checks of their answers.
        answer_seconds: wait for answers after the last request.
    """

    def __init__(
        self,
        target: LoadTarget,
        payloads: Sequence[Payload],
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._target = target
        self._answer_seconds = answer_seconds
        requests = [(target.request(p.body, p.media_type), p) for p in payloads]
        self._requests = itertools.cycle(requests)
        self._idle: list[TargetConnection] = []
        self._connections = 0

    async def open_loop(self, arrivals: Sequence[float]) -> list[Sample]:
        """Send a request at each of the ascending moments, seconds since the start.

        Raises:
            WrongAnswerError: if an answer is not its request's.
        """
        with _no_garbage_collection():
            start = time.perf_counter()
            sending = []
            for due_seconds in arrivals:
                await _until(start + due_seconds)
                sending.append(asyncio.create_task(self._send(start, due_seconds)))
            await asyncio.wait(sending, timeout=self._answer_seconds)
            outcomes = await _end(sending)
        await self._close_idle()
        return [
            Sample(due_seconds, due_seconds, math.inf, NO_ANSWER) if outcome is None else outcome
            for outcome, due_seconds in zip(outcomes, arrivals, strict=True)
        ]

    async def closed_loop(self, concurrency: int, seconds: float) -> list[Sample]:
        """Keep ``concurrency`` requests in flight for ``seconds``.

        Raises:
            WrongAnswerError: if an answer is not its request's.
        """
        samples: list[Sample] = []
        due: dict[int, float] = {}

        async def one_after_another(place: int) -> None:
            while (now := time.perf_counter() - start) < seconds:
                due[place] = now
                samples.append(await self._send(start, now))
            del due[place]

        with _no_garbage_collection():
            start = time.perf_counter()
            loops = [asyncio.create_task(one_after_another(place)) for place in range(concurrency)]
            await asyncio.wait(loops, timeout=seconds + self._answer_seconds)
            unanswered = [Sample(moment, moment, math.inf, NO_ANSWER) for moment in due.values()]
            await _end(loops)
        await self._close_idle()
        return samples + unanswered

    async def _send(self, start: float, due_seconds: float) -> Sample:
        request, payload = next(self._requests)
        sent_seconds = time.perf_counter() - start
        connection: TargetConnection | None = None
        try:
            connection = await self._connection()
            answer = await connection.exchange(request)
        except OSError:
            return Sample(due_seconds, sent_seconds, math.inf, NO_ANSWER)
        finally:
            if connection is not None:
                await self._give_back(connection)
        if answer.status == 200 and not payload.is_answered_by(answer.body):
            raise WrongAnswerError(f"expected {payload}: {answer.body[:300]!r}")
        latency_seconds = answer.completed_at - start - due_seconds
        return Sample(due_seconds, sent_seconds, latency_seconds, answer.status)

    async def _connection(self) -> TargetConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            self._connections -= 1
        if self._connections >= MAX_CONNECTIONS:
            raise OSError(f"{MAX_CONNECTIONS} connections wait for answers already")
        self._connections += 1
        try:
            return await self._target.open()
        except BaseException:
            self._connections -= 1
            raise

    async def _give_back(self, connection: TargetConnection) -> None:
        if connection.idle and connection.reusable:
            self._idle.append(connection)
        else:
            self._connections -= 1
            await connection.close()

    async def _close_idle(self) -> None:
        for connection in self._idle:
            await connection.close()
        self._connections -= len(self._idle)
        self._idle.clear()
        await asyncio.sleep(0)  # transports close in the event loop's next turn


async def _end(tasks: Sequence[asyncio.Task[Ended]]) -> list[Ended | None]:
    """Cancel what still runs; return the results, None for what was cancelled.

    Raises:
        BaseException: what a task raised.
    """
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome
    return [None if isinstance(outcome, BaseException) else outcome for outcome in outcomes]


async def _until(moment: float) -> None:
    """Wait for a moment, precise to some ten microseconds."""
    left_seconds = moment - time.perf_counter()
    if left_seconds > SPIN_SECONDS:
        await asyncio.sleep(left_seconds - SPIN_SECONDS)
    while time.perf_counter() < moment:  # noqa: ASYNC110 - the clock sets no event
        await asyncio.sleep(0)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector's pauses out of the latencies; a run leaves little behind."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
