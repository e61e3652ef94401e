"""The HTTP worker's end of the link: send a request to an engine, await its answer.

A worker keeps a request's pixels until it is answered. If the engine dies, the next incarnation
gets the requests again, once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
import zmq.asyncio

from model.config import Task
from service.errors import DeadlineExceededError, InferenceError, NotReadyError, ServiceError
from service.link.messages import (
    Answer,
    Cancel,
    Hello,
    Refusal,
    Returned,
    Submit,
    ToWorker,
    Welcome,
    array_from,
    decode_to_worker,
    encode,
    header_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HELLO_INTERVAL_SECONDS = 0.5
SILENCE_SECONDS = 2.5
"""An engine that has not answered a greeting for this long is not ready."""

MAX_DEATHS = 2
"""A request that was at two engines when they died may be why; it is not sent again."""


@dataclass(frozen=True)
class NetworkInput:
    """An image, brought to a network's geometry.

    Attributes:
        pixels: (H, W, 3) uint8.
        size: height and width of the network's input; not smaller than the image.
        original_size: height and width of the caller's image.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    original_size: tuple[int, int]


@dataclass(frozen=True)
class Result:
    """An engine's answer.

    Attributes:
        arrays: as the task defines them.
        queue_seconds: from arrival at the engine to the batch's start.
        inference_seconds: the batch's time on the device.
        batch_size: requests in the batch.
    """

    arrays: tuple[NDArray[Any], ...]
    queue_seconds: float
    inference_seconds: float
    batch_size: int


@dataclass
class _Pending:
    """A request without an answer.

    ``sent_to`` is the incarnation that has it, or None while no engine does.
    """

    submit: Submit
    pixels: NDArray[np.uint8]
    answer: asyncio.Future[Result]
    sent_to: str | None = None
    deaths: int = 0


class EngineClient:
    """Talks to one engine.

    Args:
        address: path of the engine's Unix socket.
        worker_name: unique among the HTTP workers.
    """

    def __init__(self, address: Path, worker_name: str) -> None:
        self._socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.ROUTING_ID, worker_name.encode())
        self._socket.connect(f"ipc://{address}")
        self._pending: dict[int, _Pending] = {}
        self._request_ids = itertools.count(1)
        self._welcome: Welcome | None = None
        self._offer: Welcome | None = None
        self._welcomed_at = 0.0
        self._pending_work_seconds = 0.0

    @property
    def offer(self) -> Welcome | None:
        """What the engine serves, as it said when it was last warm; None if it never was.

        It outlives the engine: a restarted one serves the same, and requests wait for it.
        """
        return self._offer

    @property
    def ready(self) -> bool:
        """Whether the engine is warm and was heard of lately."""
        heard = time.monotonic() - self._welcomed_at < SILENCE_SECONDS
        return self._welcome is not None and self._welcome.ready and heard

    @property
    def load(self) -> tuple[float, int]:
        """How much work the engine has, for comparing engines."""
        return self._pending_work_seconds, len(self._pending)

    async def run(self) -> None:
        """Receive answers and keep in touch with the engine, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._greet())
            tasks.create_task(self._receive())

    async def submit(
        self, task: Task, image: NetworkInput, *, deadline: float, timeout_seconds: float
    ) -> Result:
        """Have the engine work on an image.

        Args:
            task: what is wanted.
            image: in the geometry of the task's network.
            deadline: monotonic moment after which nobody waits for the answer.
            timeout_seconds: the length of time that the caller asked for, for the error's text.

        Raises:
            ServiceError: as the engine refuses, or when the deadline passes. If the awaiting task
                is cancelled, the engine forgets the request.
        """
        submit = Submit(
            request_id=next(self._request_ids),
            task=task,
            image=header_of(image.pixels),
            input_size=image.size,
            original_size=image.original_size,
            deadline=deadline,
            timeout_seconds=timeout_seconds,
        )
        pending = _Pending(submit, image.pixels, asyncio.get_running_loop().create_future())
        self._pending[submit.request_id] = pending
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await asyncio.sleep(0)  # a deadline that has passed already ends it here
                if self._welcome is not None and self._welcome.ready:
                    await self._send(pending, self._welcome.incarnation)
                return await pending.answer
        except TimeoutError:
            if not self.ready:
                raise NotReadyError(
                    "The engine is being restarted and was not back before the deadline.",
                    retry_after_seconds=1.0,
                ) from None
            raise DeadlineExceededError(timeout_seconds=timeout_seconds) from None
        finally:
            del self._pending[submit.request_id]
            if not pending.answer.done() or pending.answer.cancelled():
                # zmq sends at once or queues: nothing to wait for on the way out.
                self._socket.send(encode(Cancel(submit.request_id)))

    def close(self) -> None:
        """Leave the engine."""
        self._socket.close()

    async def _greet(self) -> None:
        while True:
            await self._socket.send(encode(Hello()))
            await asyncio.sleep(HELLO_INTERVAL_SECONDS)

    async def _receive(self) -> None:
        while True:
            header, *frames = await self._socket.recv_multipart()
            await self._take(decode_to_worker(header), frames)

    async def _take(self, message: ToWorker, frames: list[bytes]) -> None:
        match message:
            case Welcome():
                await self._take_welcome(message)
            case Answer():
                self._pending_work_seconds = message.pending_work_seconds
                self._settle(message.request_id, _result(message, frames))
            case Returned(request_id):
                # No engine had it when one died.
                if request_id in self._pending:
                    self._pending[request_id].sent_to = None
            case Refusal():
                self._settle(
                    message.request_id,
                    ServiceError.rebuilt(message.slug, message.detail, message.retry_after_seconds),
                )

    async def _take_welcome(self, welcome: Welcome) -> None:
        self._welcome, self._welcomed_at = welcome, time.monotonic()
        if welcome.ready:
            self._offer = welcome
        self._pending_work_seconds = welcome.pending_work_seconds
        for pending in list(self._pending.values()):
            if pending.sent_to not in {None, welcome.incarnation}:
                pending.sent_to = None
                pending.deaths += 1
                if pending.deaths >= MAX_DEATHS:
                    error = InferenceError("The engine died twice while it had this request.")
                    self._settle(pending.submit.request_id, error)
            if welcome.ready and pending.sent_to is None and not pending.answer.done():
                await self._send(pending, welcome.incarnation)

    async def _send(self, pending: _Pending, incarnation: str) -> None:
        pending.sent_to = incarnation
        await self._socket.send_multipart([encode(pending.submit), pending.pixels.data])

    def _settle(self, request_id: int, outcome: Result | ServiceError) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.answer.done():
            return  # its client left, or it was sent twice
        if isinstance(outcome, Result):
            pending.answer.set_result(outcome)
        else:
            pending.answer.set_exception(outcome)


class EnginePool:
    """All engines of this machine; a request goes to the one with the least pending work."""

    def __init__(self, clients: list[EngineClient]) -> None:
        self._clients = clients

    @property
    def ready(self) -> bool:
        """Whether any engine is."""
        return any(client.ready for client in self._clients)

    @property
    def offers(self) -> list[Welcome]:
        """What the engines serve that have been warm."""
        return [client.offer for client in self._clients if client.offer is not None]

    async def run(self) -> None:
        """Keep in touch with all of them, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for client in self._clients:
                    tasks.create_task(client.run())
        finally:
            for client in self._clients:
                client.close()

    async def submit(
        self, task: Task, image: NetworkInput, *, deadline: float, timeout_seconds: float
    ) -> Result:
        """Have the least loaded engine work on an image; see ``EngineClient.submit``.

        Raises:
            NotReadyError: if no engine has been ready yet.
        """
        candidates = [client for client in self._clients if client.ready] or [
            client for client in self._clients if client.offer is not None
        ]
        if not candidates:
            raise NotReadyError("The engine is still starting.", retry_after_seconds=1.0)
        client = min(candidates, key=lambda client: client.load)
        return await client.submit(task, image, deadline=deadline, timeout_seconds=timeout_seconds)


def _result(answer: Answer, frames: list[bytes]) -> Result:
    arrays = tuple(
        array_from(header, frame) for header, frame in zip(answer.arrays, frames, strict=True)
    )
    return Result(arrays, answer.queue_seconds, answer.inference_seconds, answer.batch_size)
