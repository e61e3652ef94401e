"""An engine's device: its names, its thread, and the journal of the batch that is on it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from service import metrics
from service.engine.faults import BatchFailedError, DeviceFailedError, Fault
from service.engine.scheduling.queues import QueueKey

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
    """A batch on the device.

    Attributes:
        incarnation: the engine that ran it.
        requests: the identities of its requests.
    """

    incarnation: str
    requests: list[Identity]


class InFlightJournal:
    """Records the batch that runs in a file that outlives the engine.

    A message to the HTTP workers would not be enough: messages still in the send queue are lost
    with the process, and a request that crashes the engine would be sent again and again.

    Args:
        path: the engine's own file.
        incarnation: this engine's.

    Attributes:
        last: the batch that the engine's predecessor was running when it died; None if it was idle.
    """

    def __init__(self, path: Path, incarnation: str) -> None:
        self._incarnation = incarnation
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._file, 0, JOURNAL_BYTES)
        self.last = self._read()

    def begin(self, requests: Sequence[Identity]) -> None:
        """Record that a batch goes to the device."""
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


class Device:
    """Runs one function at a time on a thread of its own.

    Args:
        journal: records the batch on the device.
    """

    def __init__(self, journal: InFlightJournal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")

    async def do(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function on the device's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def run(
        self,
        runner: Runner,
        queue: QueueKey,
        inputs: Sequence[Input],
        size: int,
        *,
        identities: Sequence[Identity],
        expected_seconds: float,
    ) -> BatchResult:
        """Run one batch.

        Args:
            runner: made on the device's thread.
            queue: task and input size of the batch.
            inputs: at least one.
            size: places in the batch.
            identities: of the requests, in the order of the inputs.
            expected_seconds: the batch's expected cost.

        Raises:
            BatchFailedError: if the batch fails and the device still works.
            DeviceFailedError: if it hangs, or the device is lost.
        """
        patience_seconds = max(HANG_FLOOR_SECONDS, HANG_FACTOR * expected_seconds)
        self._journal.begin(identities)
        try:
            async with asyncio.timeout(patience_seconds):
                result: BatchResult = await self.do(
                    runner.run, queue.task, inputs, queue.input_size, size
                )
        except TimeoutError:
            raise DeviceFailedError(
                f"A {queue.task} batch of {size} hangs: it has not ended after "
                f"{patience_seconds:.3g} s; {expected_seconds:.3g} s were expected."
            ) from None
        except Exception as error:
            # One of two places that may catch every exception: the batch fails, and the engine
            # goes on if its device does.
            fault = await self.do(runner.fault_of, error)
            metrics.BATCH_FAULTS.labels(queue.task, fault).inc()
            if fault is Fault.DEVICE_LOST:
                raise DeviceFailedError(f"The device is lost: {error}") from error
            logger.exception("A %s batch of %d failed (%s).", queue.task, size, fault)
            self._journal.end()
            raise BatchFailedError(fault) from error
        self._journal.end()
        return result
