"""An engine's device: its names, threads, journal of running batches, and its queue's gauges."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from service import metrics
from service.engine.batches import BatchFailedError, DeviceFailedError, Fault
from service.engine.scheduling.queues import Batch
from service.engine.scheduling.scheduler import Scheduler

if TYPE_CHECKING:
    from service.engine.batches import BatchResult, Input
    from service.engine.runner import Runner

HANG_FACTOR = 20.0
HANG_FLOOR_SECONDS = 30.0
"""A batch hangs when it has taken longer than both this and its expected cost times the factor. The
floor allows for delays that the cost does not include: a busy machine, a first compilation."""

logger = logging.getLogger(__name__)


JOURNAL_BYTES = 64 * 1024
"""Size of the journal's file, allocated at the start so that a full disk cannot matter later."""


_LENGTH_BYTES = 4


Identity = tuple[bytes, int]
"""A request's identity: the HTTP worker's name and its number for the request."""


class JournalEntry(msgspec.Struct, frozen=True):
    """The batches on the device: one, or one and another that was launched behind it.

    Attributes:
        incarnation: the engine that ran them.
        requests: the identities of their requests.
    """

    incarnation: str
    requests: list[Identity]


class InFlightJournal:
    """Records the batches on the device in a file that outlives the engine.

    A message to the HTTP workers would not be enough: messages still in the send queue are lost
    with the process, and a request that crashes the engine would be sent again and again.

    Args:
        path: the engine's own file.
        incarnation: this engine's.

    Attributes:
        last: the batches that the engine's predecessor was running when it died; None if it was
            idle.
    """

    def __init__(self, path: Path, incarnation: str) -> None:
        self._incarnation = incarnation
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._file, 0, JOURNAL_BYTES)
        self.last = self._read()

    def begin(self, requests: Sequence[Identity]) -> None:
        """Record which requests are on the device from now on."""
        self._write(msgspec.msgpack.encode(JournalEntry(self._incarnation, list(requests))))

    def end(self) -> None:
        """Record that the device is idle."""
        self._write(b"")

    def _write(self, flight: bytes) -> None:
        # One call: the kernel finishes it even if the process is killed meanwhile.
        os.pwrite(self._file, len(flight).to_bytes(_LENGTH_BYTES, "big") + flight, 0)

    def _read(self) -> JournalEntry | None:
        record = os.pread(self._file, JOURNAL_BYTES, 0)
        length = int.from_bytes(record[:_LENGTH_BYTES], "big")
        if not length:
            return None
        return msgspec.msgpack.decode(record[_LENGTH_BYTES:][:length], type=JournalEntry)


@dataclass(frozen=True)
class EngineDevice:
    """The names of an engine's device.

    Attributes:
        host: on the host: "auto", "cpu" or "cuda:N"; for people, logs and metrics.
        local: in this process, which may see one GPU alone, as cuda:0.
    """

    host: str
    local: str


@dataclass(eq=False)
class RunningBatch:
    """A batch on the device.

    Attributes:
        batch: its requests and places.
        identities: of its requests, in order.
        launched: set once the device has all of it, so that another one can be put behind it.
        result: what comes of it.
    """

    batch: Batch[Any]
    identities: Sequence[Identity]
    launched: asyncio.Event = field(default_factory=asyncio.Event)
    result: asyncio.Future[BatchResult] = field(init=False)


class Device:
    """Runs one function at a time on a thread of its own.

    Another thread waits for the results of batches that were only launched there.

    Args:
        journal: records the batches on the device.
    """

    def __init__(self, journal: InFlightJournal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._results_thread = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._running: list[RunningBatch] = []

    async def do(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function on the device's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def start(
        self,
        runner: Runner,
        batch: Batch[Any],
        inputs: Sequence[Input],
        identities: Sequence[Identity],
    ) -> RunningBatch:
        """Start a batch, behind those that run.

        Args:
            runner: made on the device's thread.
            batch: at least one request.
            inputs: of the requests, in order.
            identities: of the requests, in order.

        Returns:
            The batch, for ``result_of``, in the order of the starts.
        """
        running = RunningBatch(batch, identities)
        self._running.append(running)
        self._write_journal()
        arguments = batch.queue.operation, inputs, batch.queue.input_size, batch.size
        running.result = (
            asyncio.create_task(self._launch(running, runner, arguments))
            if runner.launches
            else asyncio.get_running_loop().run_in_executor(self._thread, runner.run, *arguments)
        )
        return running

    async def result_of(
        self, running: RunningBatch, runner: Runner, *, expected_seconds: float
    ) -> BatchResult:
        """Wait for a batch that runs, with none before it.

        Args:
            running: returned by ``start``.
            runner: of the batch.
            expected_seconds: the batch's expected cost.

        Raises:
            BatchFailedError: if the batch fails and the device still works.
            DeviceFailedError: if it hangs, or the device is lost.
        """
        operation, size = running.batch.queue.operation, running.batch.size
        patience_seconds = max(HANG_FLOOR_SECONDS, HANG_FACTOR * expected_seconds)
        try:
            async with asyncio.timeout(patience_seconds):
                try:
                    result = await running.result
                except Exception as error:
                    # One of two places that may catch every exception: the batch fails, and the
                    # engine goes on if its device does.
                    raise await self._failure(running, runner, error) from error
        except TimeoutError:
            raise DeviceFailedError(
                f"A {operation.task} batch of {size} for {operation.model} hangs: it has not ended "
                f"after {patience_seconds:.3g} s; {expected_seconds:.3g} s were expected."
            ) from None
        self._end(running)
        return result

    async def _failure(
        self, running: RunningBatch, runner: Runner, error: Exception
    ) -> BatchFailedError | DeviceFailedError:
        fault = await self.do(runner.fault_of, error)
        (name, task), size = running.batch.queue.operation, running.batch.size
        metrics.BATCH_FAULTS.labels(name, task, fault).inc()
        if fault is Fault.DEVICE_LOST:
            return DeviceFailedError(f"The device is lost: {error}")
        logger.error(
            "A %s batch of %d for %s failed (%s).", task, size, name, fault, exc_info=error
        )
        self._end(running)
        return BatchFailedError(fault)

    async def _launch(
        self, running: RunningBatch, runner: Runner, arguments: tuple[Any, ...]
    ) -> BatchResult:
        wait = await self.do(runner.launch, *arguments)
        running.launched.set()
        loop = asyncio.get_running_loop()
        result: BatchResult = await loop.run_in_executor(self._results_thread, wait)
        return result

    def _end(self, running: RunningBatch) -> None:
        self._running.remove(running)
        self._write_journal()

    def _write_journal(self) -> None:
        """Record every request on the device: if it dies, each is suspected."""
        requests = [identity for running in self._running for identity in running.identities]
        if requests:
            self._journal.begin(requests)
        else:
            self._journal.end()


class QueueGauges:
    """Shows what waits for the device: once for all that changes in one turn of the event loop.

    Args:
        scheduler: that keeps the queue.
    """

    def __init__(self, scheduler: Scheduler[Any]) -> None:
        self._scheduler = scheduler
        self._due = False

    def update(self) -> None:
        """Show the queue soon."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        self._due = False
        metrics.QUEUE_REQUESTS.set(self._scheduler.waiting)
        metrics.PENDING_WORK_SECONDS.set(self._scheduler.pending_work_seconds())
