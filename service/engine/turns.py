"""Turns of batches on the device.

A device that computes beside the host is idle from the end of a batch until the next one was
composed and launched. So under load the next batch is launched behind the running one, before that
one's results are received. Only a full batch is: a smaller one could still grow, and whatever is in
a batch can no longer be overtaken or withdrawn. Suspects of a failed batch run alone, before and
behind nothing, so that a death of the engine accuses none beside them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from service import metrics
from service.api.errors import DeviceMemoryError, InferenceError, ServiceError
from service.engine.batches import BatchFailedError, BatchResult, Fault, Input
from service.engine.device import Device, RunningBatch
from service.engine.scheduling.queues import Batch
from service.engine.scheduling.scheduler import Scheduler
from service.engine.workers import Work, Workers

if TYPE_CHECKING:
    from service.engine.runner import Runner

logger = logging.getLogger(__name__)


class Turns:
    """Gives the device one batch after the other.

    Args:
        scheduler: composes them.
        workers: told the outcome.
        device: runs them.
        largest: most requests in a batch.

    Attributes:
        arrival: set when a request was admitted.
    """

    def __init__(
        self, scheduler: Scheduler[Work], workers: Workers, device: Device, largest: int
    ) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._device = device
        self._largest = largest
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
            export_queue(self._scheduler)
        return batch

    def _start(self, runner: Runner, batch: Batch[Work]) -> RunningBatch:
        work = [request.payload for request in batch.requests]
        inputs = [Input(item.image, item.submit.original_size) for item in work]
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
        export_queue(self._scheduler)


def export_queue(scheduler: Scheduler[Work]) -> None:
    """Show what waits for the device."""
    metrics.QUEUE_REQUESTS.set(scheduler.waiting)
    metrics.PENDING_WORK_SECONDS.set(scheduler.pending_work_seconds())
