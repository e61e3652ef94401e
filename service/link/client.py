"""The HTTP worker's end of the link to one engine: send a request, await its answer.

A worker keeps a request's pixels until it is answered. If the engine dies, the next incarnation
gets the requests again; one that was on the device when an engine died runs in a batch of its own,
and is not sent a third time.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from model.config import Operation
from service import tracing
from service.api.errors import DeadlineExceededError, InferenceError, NotReadyError, ServiceError
from service.link.messages import (
    Answer,
    Cancel,
    CostInfo,
    Hello,
    InferenceResult,
    ModelInfo,
    NetworkInput,
    Question,
    Refusal,
    Returned,
    Submit,
    Welcome,
    decode_to_worker,
    encode,
)
from service.link.sockets import Channel, header_of, inference_result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HELLO_INTERVAL_SECONDS = 0.5
RECONNECT_SECONDS = 0.02
SILENCE_SECONDS = 2.5
"""An engine that has not answered a greeting for this long is not ready."""

MAX_CRASHES = 2
"""Engines that may die with a request on the device until the request counts as the cause."""


@dataclass
class _Pending:
    """A request without an answer.

    Attributes:
        submit: its message.
        pixels: the image, sent behind the message.
        answer: set when it is answered.
        sent_to: the incarnation that has it; None while no engine does.
        crashes: engines that died with it on the device.
    """

    submit: Submit
    pixels: NDArray[np.uint8]
    answer: asyncio.Future[InferenceResult]
    sent_to: str | None = None
    crashes: int = 0


class EngineLoad:
    """One engine's load: its last report, and the requests sent since."""

    def __init__(self) -> None:
        self._costs: tuple[CostInfo, ...] = ()
        self._pending_work_seconds = 0.0
        self._wait_seconds: dict[Operation, float] = {}
        self._sent_seconds: defaultdict[Operation, float] = defaultdict(float)

    @property
    def pending_work_seconds(self) -> float:
        """Device time that the engine's requests need."""
        return self._pending_work_seconds + sum(self._sent_seconds.values())

    def wait_seconds(self, operation: Operation) -> float:
        """Return the expected wait of one more request."""
        return self._wait_seconds.get(operation, 0.0) + self._sent_seconds[operation]

    def report(self, message: Welcome | Answer) -> None:
        """Take an engine's report."""
        if isinstance(message, Welcome):
            self._costs = message.costs
        self._pending_work_seconds = message.pending_work_seconds
        self._wait_seconds = message.wait_seconds
        self._sent_seconds.clear()

    def sent(self, submit: Submit) -> None:
        """Count a request that the engine has not reported yet."""
        self._sent_seconds[submit.operation] += _marginal_seconds(self._costs, submit)


class EngineClient:
    """Talks to one engine.

    Args:
        address: path of the engine's Unix socket.
        worker_name: unique among the HTTP workers.

    Attributes:
        warm: set while the engine is connected and ready.
    """

    def __init__(self, address: Path, worker_name: str) -> None:
        self._address, self._name = address, worker_name.encode()
        self._channel = Channel(self._receive, self._note_loss)
        self._lost = asyncio.Event()
        self._pending: dict[int, _Pending] = {}
        self._request_ids = itertools.count(1)
        self._welcome: Welcome | None = None
        self._offer: Welcome | None = None
        self._welcomed_at = 0.0
        self._load = EngineLoad()
        self.warm = asyncio.Event()

    @property
    def offer(self) -> Welcome | None:
        """The engine's offer from when it was last warm; None if it never was.

        It outlives the engine: a restarted one serves the same, and requests wait for it.
        """
        return self._offer

    def offers(self, model: ModelInfo) -> bool:
        """Return whether the engine's offer has this model, with the same weights."""
        asked = model.name, model.weights_sha256
        offered = () if self._offer is None else self._offer.models
        return any((each.name, each.weights_sha256) == asked for each in offered)

    @property
    def ready(self) -> bool:
        """Whether the engine is warm and has answered recently."""
        heard = time.monotonic() - self._welcomed_at < SILENCE_SECONDS
        return self._welcome is not None and self._welcome.ready and heard

    @property
    def load(self) -> tuple[float, int]:
        """Pending work in seconds and in requests, to compare engines by."""
        return self._load.pending_work_seconds, len(self._pending)

    def wait_seconds(self, operation: Operation) -> float:
        """Return the expected wait of one more request."""
        return self._load.wait_seconds(operation)

    async def run(self) -> None:
        """Keep in touch with the engine, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._greet())
            tasks.create_task(self._stay_connected())

    async def submit(
        self,
        model: ModelInfo,
        question: Question,
        image: NetworkInput,
        *,
        deadline: float,
        timeout_seconds: float,
    ) -> InferenceResult:
        """Send an image to the engine and await the result; cancelled, the engine drops it.

        Args:
            model: as the engine offers it.
            question: what is asked of it.
            image: in the model's geometry.
            deadline: monotonic moment after which the caller no longer waits.
            timeout_seconds: the caller's timeout, for the error's text.

        Raises:
            ServiceError: if the engine rejects the request, or the deadline passes.
        """
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise DeadlineExceededError(timeout_seconds=timeout_seconds)
        submit = Submit(
            request_id=next(self._request_ids),
            operation=Operation(model.name, question.task),
            weights_sha256=model.weights_sha256,
            image=header_of(image.pixels),
            input_size=image.size,
            original_size=image.original_size,
            deadline=deadline,
            timeout_seconds=timeout_seconds,
            layer=question.layer,
            class_ids=question.class_ids,
            logits=question.logits,
            traceparent=tracing.traceparent(),
        )
        loop = asyncio.get_running_loop()
        pending = _Pending(submit, image.pixels, loop.create_future())
        self._pending[submit.request_id] = pending
        self._load.sent(submit)
        expiry = loop.call_later(left_seconds, self._expire, pending)
        try:
            if self._welcome is not None and self._welcome.ready:
                self._send(pending, self._welcome.incarnation)
            return await pending.answer
        finally:
            expiry.cancel()
            del self._pending[submit.request_id]
            if not pending.answer.done() or pending.answer.cancelled():
                self._channel.send(encode(Cancel(submit.request_id)))

    def _expire(self, pending: _Pending) -> None:
        """Give a request up at its deadline."""
        if pending.answer.done():
            return
        self._channel.send(encode(Cancel(pending.submit.request_id)))
        late: ServiceError = DeadlineExceededError(timeout_seconds=pending.submit.timeout_seconds)
        if not self.ready:
            why = "The engine is restarting and was not ready before the deadline."
            late = NotReadyError(why, retry_after_seconds=1.0)
        pending.answer.set_exception(late)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    async def _greet(self) -> None:
        while True:
            self._channel.send(encode(Hello()))
            await asyncio.sleep(HELLO_INTERVAL_SECONDS)

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            channel = Channel(self._receive, self._note_loss)
            try:
                await loop.create_unix_connection(lambda: channel, str(self._address))  # noqa: B023
            except OSError:  # nothing listens there, not yet or not any more
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            self._channel = channel
            channel.send(self._name)
            channel.send(encode(Hello()))
            await self._lost.wait()

    def _note_loss(self) -> None:
        """Note at once that the engine is gone, or has been replaced."""
        self._welcome = None
        self.warm.clear()
        self._lost.set()

    def _receive(self, frames: list[memoryview]) -> None:
        message = decode_to_worker(frames[0])
        match message:
            case Welcome():
                self._take_welcome(message)
            case Answer():
                self._load.report(message)
                self._resolve(message.request_id, inference_result(message, frames[1:]))
            case Returned(request_id):
                # No engine holds it now, so an engine's death is not counted against it.
                if request_id in self._pending:
                    self._pending[request_id].sent_to = None
            case Refusal():
                self._resolve(
                    message.request_id,
                    ServiceError.rebuilt(message.slug, message.detail, message.retry_after_seconds),
                )

    def _take_welcome(self, welcome: Welcome) -> None:
        self._welcome, self._welcomed_at = welcome, time.monotonic()
        if welcome.ready:
            self._offer = welcome
            self.warm.set()
        self._load.report(welcome)
        for pending in list(self._pending.values()):
            if pending.sent_to not in {None, welcome.incarnation}:
                self._note_crash(pending, welcome)
            if welcome.ready and pending.sent_to is None and not pending.answer.done():
                self._load.sent(pending.submit)
                self._send(pending, welcome.incarnation)

    def _note_crash(self, pending: _Pending, welcome: Welcome) -> None:
        """Record that a request's engine is gone; fail the request after ``MAX_CRASHES``."""
        crash, request_id = welcome.crash, pending.submit.request_id
        if crash and pending.sent_to == crash.incarnation and request_id in crash.request_ids:
            pending.crashes += 1
            pending.submit = replace(pending.submit, alone=True)
        pending.sent_to = None
        if pending.crashes >= MAX_CRASHES:
            error = InferenceError("The engine died twice while it worked on this request.")
            self._resolve(request_id, error)

    def _send(self, pending: _Pending, incarnation: str) -> None:
        pending.sent_to = incarnation
        self._channel.send(encode(pending.submit), [pending.pixels])

    def _resolve(self, request_id: int, outcome: InferenceResult | ServiceError) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.answer.done():
            return  # its client left, or it was sent twice
        if isinstance(outcome, InferenceResult):
            pending.answer.set_result(outcome)
        else:
            pending.answer.set_exception(outcome)


def _marginal_seconds(costs: tuple[CostInfo, ...], submit: Submit) -> float:
    """Return the expected device time of one more request; 0.0 where no cost is known."""
    known = [cost for cost in costs if cost.operation == submit.operation]
    if not known:
        return 0.0
    pixels = math.prod(submit.input_size)
    nearest = min(known, key=lambda cost: abs(math.prod(cost.input_size) - pixels))
    return nearest.per_image_seconds * pixels / math.prod(nearest.input_size)
