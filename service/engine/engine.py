"""The engine: admits, batches, runs and answers.

The event loop admits, expires and cancels while a batch runs on the device's thread, so that a
deadline holds also for a request that waits behind a slow batch.

A device that computes beside the host is idle from the end of a batch until the next one was
composed and launched. So under load the next batch is launched behind the running one, before that
one's results are received. Only a full batch is: a smaller one could still grow, and whatever is in
a batch can no longer be overtaken or withdrawn. Suspects of a failed batch run alone, before and
behind nothing, so that a death of the engine accuses none beside them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service import metrics
from service.api.errors import DeviceMemoryError, InferenceError, ServiceError
from service.engine.batches import BatchFailedError, BatchResult, Fault
from service.engine.device import Device, EngineDevice, InFlightJournal, QueueGauges, RunningBatch
from service.engine.loading import hand_over, load, summary, watch
from service.engine.scheduling.cost_model import batch_sizes_up_to
from service.engine.scheduling.queues import Batch, QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler
from service.engine.workers import WITHDRAWN, Work, Workers, trace_unanswered
from service.link.messages import Cancel, Hello, Submit
from service.link.sockets import LinkServer, Received, array_from
from service.processes.environment import freeze_heap
from service.processes.handover import last_measurements
from service.processes.heartbeat import announce
from service.settings import ModelSpec, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.inference.predictor import Image
    from service.engine.runner import Runner

TIMER_SECONDS = 0.001  # the event loop's precision

logger = logging.getLogger(__name__)


class Turns:
    """Gives the device one batch after the other.

    Args:
        scheduler: composes them.
        workers: told the outcome.
        device: runs them.
        largest: most requests in a batch.

    Attributes:
        gauges: of the scheduler's queue.
        arrival: set when a request was admitted.
    """

    def __init__(
        self, scheduler: Scheduler[Work], workers: Workers, device: Device, largest: int
    ) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._device = device
        self._largest = largest
        self.gauges = QueueGauges(scheduler)
        self.arrival = asyncio.Event()

    async def work(self, runner: Runner) -> None:
        """Run batches until cancelled.

        Raises:
            DeviceFailedError: if the device hangs or is lost.
        """
        while True:
            batch = self._next_batch()
            if batch is None:
                self.arrival.clear()
                await self.arrival.wait()
                continue
            running: RunningBatch | None = self._start(runner, batch)
            while running is not None:
                running = await self._take_turn(runner, running)

    async def _take_turn(self, runner: Runner, running: RunningBatch) -> RunningBatch | None:
        """Wait for a batch and answer its requests; return the one that was launched behind it."""
        if not runner.launches or running.batch.queue.quarantine:
            await self._finish(runner, running)
            return None
        behind = asyncio.create_task(self._start_behind(runner, running))
        try:
            await self._finish(runner, running)
        finally:
            behind.cancel()
            await asyncio.wait({behind})
        return None if behind.cancelled() else behind.result()

    async def _start_behind(self, runner: Runner, running: RunningBatch) -> RunningBatch:
        """Start another batch once this one is launched and so many requests wait."""
        await running.launched.wait()
        while (batch := self._next_batch(full=True)) is None:
            self.arrival.clear()
            await self.arrival.wait()
        return self._start(runner, batch)

    def _next_batch(self, *, full: bool = False) -> Batch[Work] | None:
        self._workers.refuse_expired()
        batch = self._scheduler.next_batch(full=full)
        if batch is not None or not full:
            self.gauges.update()
        return batch

    def _start(self, runner: Runner, batch: Batch[Work]) -> RunningBatch:
        work = [request.payload for request in batch.requests]
        inputs = [each.input for each in work]
        return self._device.start(runner, batch, inputs, [item.identity for item in work])

    async def _finish(self, runner: Runner, running: RunningBatch) -> None:
        """Wait for the first batch on the device, and tell its workers what came of it."""
        started, batch = time.monotonic(), running.batch
        try:
            result = await self._device.result_of(
                running, runner, expected_seconds=self._scheduler.expected_seconds(batch)
            )
        except BatchFailedError as error:
            self._scheduler.failed(batch, time.monotonic() - started)
            self._after_failure(batch, error.fault)
            return
        self._scheduler.finished(batch, result.device_seconds, result.network_seconds)
        self._export_batch(batch, result, runner)
        self._workers.answer(
            batch,
            result.arrays,
            started=started,
            network_seconds=result.network_seconds,
            device_seconds=result.device_seconds,
        )

    def _after_failure(self, batch: Batch[Work], fault: Fault) -> None:
        """Retry with fewer requests, or reject the one that is left."""
        if fault is Fault.OUT_OF_MEMORY and batch.size > 1:
            largest = self._scheduler.cap(batch)
            logger.warning(
                "%s batches for %s hold at most %d requests from now on.",
                batch.queue.operation.task,
                batch.queue.operation.model,
                largest,
            )
        is_last = len(batch.requests) == 1
        if fault is Fault.OUT_OF_MEMORY:
            metrics.OUT_OF_MEMORY.labels("refused" if is_last else "split").inc()
        if not is_last:
            self._scheduler.split(batch)
            return
        error: ServiceError = (
            DeviceMemoryError()
            if fault is Fault.OUT_OF_MEMORY
            else InferenceError("The network failed on this image.")
        )
        (request,) = batch.requests
        work = request.payload
        self._workers.refuse(work.worker, work.submit, error, arrived=request.arrived)

    def _trigger(self, batch: Batch[Work]) -> str:
        if batch.queue.quarantine:
            return "closed"
        return "full" if len(batch.requests) == self._largest else "free"

    def _export_batch(self, batch: Batch[Work], result: BatchResult, runner: Runner) -> None:
        operation = batch.queue.operation
        metrics.observe_stages(
            operation,
            device=result.network_seconds,
            postprocess=result.device_seconds - result.network_seconds,
        )
        metrics.BATCHES.labels(*operation, self._trigger(batch)).inc()
        metrics.BATCH_SIZE.labels(*operation).observe(len(batch.requests))
        metrics.BATCH_PADDING.labels(*operation).inc(batch.size - len(batch.requests))
        metrics.DEVICE_SECONDS.labels(runner.host_device).inc(result.device_seconds)
        self.gauges.update()


class Engine:
    """Owns a device and the queue in front of it.

    Args:
        settings: the service's.
        specs: the models.
        device: the names of its device.
        server: the link to the HTTP workers.
        journal: path of the in-flight journal, which outlives the engine.
        measured: path of a file for what it measures; None to keep that to itself.
        predecessor: path of such a file of the engine whose place it takes.
        pins: file of the versions that all engines' weights have; see ``model.remote.fetch``.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[ModelSpec],
        device: EngineDevice,
        server: LinkServer,
        journal: Path,
        measured: Path | None = None,
        predecessor: Path | None = None,
        pins: Path | None = None,
    ) -> None:
        self._settings = settings
        self._specs = specs
        self._measured, self._predecessor, self._pins = measured, predecessor, pins
        self._device_names = device
        self._server = server
        self._batch_sizes = batch_sizes_up_to(settings.max_batch_size)
        self._scheduler: Scheduler[Work] = Scheduler(
            clock=time.monotonic,
            max_waiting=settings.max_queue_requests,
            batch_sizes=self._batch_sizes,
        )
        incarnation = secrets.token_hex(8)
        in_flight = InFlightJournal(journal, incarnation)
        self._workers = Workers(
            server, self._scheduler, incarnation, in_flight.last, on_gone=self._drop_waiting
        )
        self._device = Device(in_flight)
        self._turns = Turns(self._scheduler, self._workers, self._device, self._batch_sizes[-1])
        self._stage: Callable[[NDArray[np.uint8]], Image] = lambda image: image
        self._expires_at = math.inf

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ConfigurationError: if the models cannot be loaded as the settings say.
            DeviceFailedError: if the device hangs or is lost.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive())
            tasks.create_task(self._workers.watch())
            names, sizes = self._device_names, self._batch_sizes
            known = last_measurements(self._measured, self._predecessor)
            runner = await self._device.do(
                load, self._settings, self._specs, names, sizes, self._scheduler, known, self._pins
            )
            watch(runner, self._workers)
            self._stage = runner.stage
            freeze_heap()
            self._workers.announce(runner.models)
            announce({"models": [summary(model) for model in runner.models]})
            tasks.create_task(self._turns.work(runner))
            if self._measured is not None:
                tasks.create_task(hand_over(self._measured, runner, self._scheduler))

    async def _receive(self) -> None:
        async for received in self._server.received():
            self._workers.heard(received.worker)
            match received.message:
                case Hello():
                    self._workers.greet(received.worker)
                case Submit():
                    self._admit(received, received.message)
                case Cancel(request_id):
                    withdrawn = self._scheduler.cancel((received.worker, request_id))
                    if withdrawn is not None:
                        trace_unanswered(withdrawn.payload.submit, withdrawn.arrived, WITHDRAWN)
                    self._turns.gauges.update()

    def _admit(self, received: Received, submit: Submit) -> None:
        if not self._workers.ready:
            self._workers.give_back(received.worker, submit)
            return
        try:
            self._workers.check_offered(submit)
            image = self._stage(array_from(submit.image, received.frames[0]))
            work = Work(received.worker, submit, image)
            self._scheduler.admit(
                Request(
                    identity=work.identity,
                    queue=QueueKey(submit.operation, submit.input_size),
                    arrived=time.monotonic(),
                    deadline=submit.deadline,
                    payload=work,
                    alone=submit.alone,
                )
            )
        except ServiceError as error:
            self._workers.refuse(received.worker, submit, error)
        else:
            self._turns.arrival.set()
            self._watch_deadlines()
            self._turns.gauges.update()

    def _drop_waiting(self, worker: bytes) -> None:
        """Drop the waiting requests of a worker that is gone."""
        dropped = self._scheduler.cancel_all(lambda request: request.payload.worker == worker)
        metrics.CANCELLED.labels("engine").inc(dropped)
        if dropped:
            logger.warning("%s is gone; %d of its requests are dropped.", worker.decode(), dropped)
        self._turns.gauges.update()

    def _watch_deadlines(self) -> None:
        """Call ``_expire`` at the next deadline, unless it is called before."""
        deadline = self._scheduler.next_deadline()
        if deadline is not None and deadline < self._expires_at:
            self._expires_at = deadline
            left_seconds = max(deadline - time.monotonic(), 0.0) + TIMER_SECONDS
            asyncio.get_running_loop().call_later(left_seconds, self._expire)

    def _expire(self) -> None:
        """Reject requests at the moment their deadline passes, also while a batch runs."""
        self._expires_at = math.inf
        self._workers.refuse_expired()
        self._turns.gauges.update()
        self._watch_deadlines()
