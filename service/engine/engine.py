"""The engine: admits, batches, runs and answers.

One thread owns the device. The event loop beside it admits, expires and cancels while a batch
runs, so that a deadline is a deadline also for a request that waits behind a slow batch.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service import metrics
from service.engine.runner import Input, Outcome, Runner
from service.engine.scheduler import Batch, QueueKey, Request, Scheduler, batch_sizes_up_to
from service.errors import DeadlineExceededError, InferenceError, ServiceError
from service.lifeline import announce
from service.link.messages import (
    Answer,
    Cancel,
    CostInfo,
    Hello,
    ModelInfo,
    Refusal,
    Returned,
    Submit,
    Welcome,
    array_from,
    header_of,
)
from service.link.server import LinkServer, Received
from service.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class ConfigurationError(Exception):
    """The settings ask for something that cannot be; no restart will help."""


@dataclass(frozen=True)
class Work:
    """What the engine needs of a request beyond what the scheduler looks at."""

    worker: bytes
    submit: Submit
    image: NDArray[np.uint8]


class Engine:
    """Owns a device and the queue in front of it.

    Args:
        settings: the service's.
        device: a torch device, or "auto".
        server: the link to the HTTP workers.
    """

    def __init__(self, settings: Settings, device: str, server: LinkServer) -> None:
        self._settings = settings
        self._device = device
        self._server = server
        self._batch_sizes = batch_sizes_up_to(settings.max_batch_size)
        self._scheduler: Scheduler[Work] = Scheduler(
            clock=time.monotonic,
            max_waiting=settings.max_queue_requests,
            batch_sizes=self._batch_sizes,
        )
        self._device_thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._incarnation = secrets.token_hex(8)
        self._models: tuple[ModelInfo, ...] = ()
        self._ready = False
        self._workers: set[bytes] = set()
        self._arrival = asyncio.Event()
        self._new_deadline = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ConfigurationError: if the models cannot be loaded as the settings say.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive())
            tasks.create_task(self._expire())
            runner = await self._on_device(self._load)
            self._models, self._ready = runner.models, True
            for worker in self._workers:
                await self._server.send(worker, self._welcome())
            announce({"models": [_summary(model) for model in self._models]})
            tasks.create_task(self._work(runner))

    def _load(self) -> Runner:
        try:
            runner = Runner(self._settings, self._device, self._batch_sizes)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        for step in runner.warm_up():
            key = QueueKey(step.task, step.input_size)
            self._scheduler.learn(key, step.size, step.device_seconds)
        for model in runner.models:
            metrics.MODEL_INFO.labels(
                model.task, model.name, model.weights, model.device, model.dtype
            ).set(1)
        return runner

    async def _on_device(self, function: Any, *arguments: object) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._device_thread, function, *arguments)

    async def _receive(self) -> None:
        async for received in self._server.received():
            match received.message:
                case Hello():
                    self._workers.add(received.worker)
                    await self._server.send(received.worker, self._welcome())
                case Submit():
                    await self._admit(received, received.message)
                case Cancel(request_id):
                    self._scheduler.cancel((received.worker, request_id))
                    self._show_queue()

    async def _admit(self, received: Received, submit: Submit) -> None:
        if not self._ready:
            await self._server.send(received.worker, Returned(submit.request_id))
            return
        try:
            image = array_from(submit.image, received.frames[0])
            self._scheduler.admit(
                Request(
                    identity=(received.worker, submit.request_id),
                    queue=QueueKey(submit.task, submit.input_size),
                    arrived=time.monotonic(),
                    deadline=submit.deadline,
                    payload=Work(received.worker, submit, image),
                )
            )
        except ServiceError as error:
            await self._refuse(received.worker, submit, error)
        else:
            self._arrival.set()
            self._new_deadline.set()
            self._show_queue()

    async def _expire(self) -> None:
        """Answer requests at the moment their deadline passes, whatever the device does."""
        while True:
            deadline = self._scheduler.next_deadline()
            seconds = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            self._new_deadline.clear()
            try:
                await asyncio.wait_for(self._new_deadline.wait(), seconds)
            except TimeoutError:
                await self._refuse_expired()

    async def _refuse_expired(self) -> None:
        for request in self._scheduler.expire():
            submit = request.payload.submit
            error = DeadlineExceededError(timeout_seconds=submit.timeout_seconds)
            await self._refuse(request.payload.worker, submit, error)
            self._show_queue()

    async def _work(self, runner: Runner) -> None:
        while True:
            await self._refuse_expired()
            batch = self._scheduler.next_batch()
            self._show_queue()
            if batch is None:
                self._arrival.clear()
                await self._arrival.wait()
            else:
                await self._run_batch(runner, batch)

    async def _run_batch(self, runner: Runner, batch: Batch[Work]) -> None:
        started = time.monotonic()
        work = [request.payload for request in batch.requests]
        inputs = [Input(each.image, each.submit.original_size) for each in work]
        try:
            outcome = await self._on_device(
                runner.run, batch.queue.task, inputs, batch.queue.input_size, batch.size
            )
        except Exception:
            # One of the two places where anything may be caught: the batch fails, the engine
            # lives on.
            logger.exception("A batch failed.")
            failed_seconds = time.monotonic() - started
            self._scheduler.failed(batch, failed_seconds)
            await self._answer(batch, [None] * len(inputs), started, failed_seconds)
            return
        self._scheduler.finished(batch, outcome.device_seconds, outcome.network_seconds)
        self._count(batch, outcome, runner)
        await self._answer(batch, outcome.arrays, started, outcome.device_seconds)

    async def _answer(
        self,
        batch: Batch[Work],
        arrays: Sequence[tuple[NDArray[Any], ...] | None],
        started: float,
        device_seconds: float,
    ) -> None:
        pending_work_seconds = self._scheduler.pending_work_seconds()
        for request, result in zip(batch.requests, arrays, strict=True):
            work = request.payload
            if result is None:
                error = InferenceError("The network's output for this image is not usable.")
                await self._refuse(work.worker, work.submit, error)
                continue
            answer = Answer(
                request_id=work.submit.request_id,
                arrays=tuple(header_of(array) for array in result),
                queue_seconds=started - request.arrived,
                inference_seconds=device_seconds,
                batch_size=len(batch.requests),
                pending_work_seconds=pending_work_seconds,
            )
            await self._server.send(work.worker, answer, result)

    async def _refuse(self, worker: bytes, submit: Submit, error: ServiceError) -> None:
        refusal = Refusal(submit.request_id, error.slug, error.detail, error.retry_after_seconds)
        await self._server.send(worker, refusal)

    def _welcome(self) -> Welcome:
        costs = tuple(
            CostInfo(key.task, key.input_size, cost.fixed_seconds, cost.per_image_seconds)
            for key, cost in self._scheduler.costs.items()
            if cost.known
        )
        pending = self._scheduler.pending_work_seconds()
        return Welcome(self._incarnation, self._ready, self._models, costs, pending)

    def _show_queue(self) -> None:
        metrics.QUEUE_REQUESTS.set(self._scheduler.waiting)
        metrics.PENDING_WORK_SECONDS.set(self._scheduler.pending_work_seconds())

    def _count(self, batch: Batch[Work], outcome: Outcome, runner: Runner) -> None:
        metrics.BATCH_SIZE.labels(batch.queue.task).observe(len(batch.requests))
        metrics.BATCH_PADDING.labels(batch.queue.task).inc(batch.size - len(batch.requests))
        metrics.DEVICE_SECONDS.labels(str(runner.device)).inc(outcome.device_seconds)
        self._show_queue()


def _summary(model: ModelInfo) -> dict[str, object]:
    return {
        "task": model.task,
        "name": model.name,
        "weights": model.weights,
        "classes": len(model.labels),
        "device": f"{model.device} ({model.device_name})",
        "dtype": model.dtype,
        "max_batch_size": model.batch_sizes[-1],
    }
