"""The engine: admits, batches, runs and answers.

The event loop admits, expires and cancels while a batch runs on the device's thread, so that a
deadline holds also for a request that waits behind a slow batch.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service import metrics
from service.api.errors import ServiceError
from service.engine.device import Device, EngineDevice, InFlightJournal
from service.engine.loading import load, measured, summary
from service.engine.scheduling.cost_model import batch_sizes_up_to
from service.engine.scheduling.queues import QueueKey, Request
from service.engine.scheduling.scheduler import Scheduler
from service.engine.turns import Turns, export_queue
from service.engine.workers import WITHDRAWN, Work, Workers, trace_unanswered
from service.link.messages import Cancel, Hello, Submit
from service.link.sockets import LinkServer, Received, array_from
from service.processes.environment import freeze_heap
from service.processes.handover import read_measurements, write_measurements
from service.processes.heartbeat import announce
from service.settings import ModelSpec, Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.inference.predictor import Image
    from service.engine.runner import Runner

HAND_OVER_SECONDS = 5.0
"""Interval at which an engine writes down what it has measured."""

logger = logging.getLogger(__name__)


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
        self._measured = measured
        self._predecessor = predecessor
        self._pins = pins
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
        self._new_deadline = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ConfigurationError: if the models cannot be loaded as the settings say.
            DeviceFailedError: if the device hangs or is lost.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive())
            tasks.create_task(self._expire())
            tasks.create_task(self._workers.watch())
            names, sizes = self._device_names, self._batch_sizes
            known = read_measurements(self._predecessor)
            runner = await self._device.do(
                load, self._settings, self._specs, names, sizes, self._scheduler, known, self._pins
            )
            self._watch(runner)
            self._stage = runner.stage
            freeze_heap()
            self._workers.announce(runner.models)
            announce({"models": [summary(model) for model in runner.models]})
            tasks.create_task(self._turns.work(runner))
            if self._measured is not None:
                tasks.create_task(self._hand_over(runner, self._measured))

    async def _hand_over(self, runner: Runner, path: Path) -> None:
        """Write down what was measured, again and again: a successor may be started at any time."""
        while True:
            write_measurements(path, measured(runner, self._scheduler))
            await asyncio.sleep(HAND_OVER_SECONDS)

    def _watch(self, runner: Runner) -> None:
        """Count what the device does beside batches from now on, and tell the workers."""
        loop = asyncio.get_running_loop()

        def fell_back(what: str) -> None:
            metrics.GPU_FALLBACKS.labels(what).inc()
            loop.call_soon_threadsafe(lambda: self._workers.announce(runner.models))

        runner.on_compilation(metrics.RECOMPILES.inc)
        runner.on_fallback(fell_back)
        runner.on_rerecording(metrics.RERECORDINGS.inc)

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
                    export_queue(self._scheduler)

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
            if self._scheduler.next_deadline() == submit.deadline:
                self._new_deadline.set()
            export_queue(self._scheduler)

    def _drop_waiting(self, worker: bytes) -> None:
        """Drop the waiting requests of a worker that is gone."""
        dropped = self._scheduler.cancel_all(lambda request: request.payload.worker == worker)
        metrics.CANCELLED.labels("engine").inc(dropped)
        if dropped:
            logger.warning("%s is gone; %d of its requests are dropped.", worker.decode(), dropped)
        export_queue(self._scheduler)

    async def _expire(self) -> None:
        """Reject requests at the moment their deadline passes, also while a batch runs."""
        while True:
            deadline = self._scheduler.next_deadline()
            seconds = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            self._new_deadline.clear()
            try:
                await asyncio.wait_for(self._new_deadline.wait(), seconds)
            except TimeoutError:
                self._workers.refuse_expired()
                export_queue(self._scheduler)
