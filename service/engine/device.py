"""The thread that owns the device, and what is done when a batch fails on it or never ends."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from service import metrics
from service.engine.faults import BatchFailedError, DeviceFailedError, Fault
from service.engine.scheduling.queues import QueueKey

if TYPE_CHECKING:
    from service.engine.runner import BatchResult, Input, Runner

HANG_FACTOR = 20.0
HANG_FLOOR_SECONDS = 30.0
"""A batch hangs when it has taken both this long and this many times its expected cost. The floor
is for what a cost does not foresee: a busy machine, a shape compiled when it first comes."""

logger = logging.getLogger(__name__)


JOURNAL_BYTES = 64 * 1024
"""Room for the largest batch, taken at the start: a full disk must not matter later."""


_LENGTH_BYTES = 4


Identity = tuple[bytes, int]
"""An HTTP worker's name and its number for the request."""


class JournalEntry(msgspec.Struct, frozen=True):
    """A batch on the device.

    Attributes:
        incarnation: the engine that ran it.
        requests: what was in it.
    """

    incarnation: str
    requests: list[Identity]


class InFlightJournal:
    """Remembers the batch that runs, across the death of the process that runs it.

    Args:
        path: the engine's own file.
        incarnation: this engine's.

    Attributes:
        last: the batch that the engine's predecessor died with, if there was one.
    """

    def __init__(self, path: Path, incarnation: str) -> None:
        self._incarnation = incarnation
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._file, 0, JOURNAL_BYTES)
        self.last = self._read()

    def begin(self, requests: Sequence[Identity]) -> None:
        """Note that a batch goes to the device."""
        self._write(msgspec.msgpack.encode(JournalEntry(self._incarnation, list(requests))))

    def end(self) -> None:
        """Note that nothing is on the device."""
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


class Device:
    """Runs one thing at a time on a thread of its own.

    Args:
        record: told what is on the device.
    """

    def __init__(self, record: InFlightJournal) -> None:
        self._journal = record
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
            runner: as the device's thread made it.
            queue: what the inputs have in common.
            inputs: at least one.
            size: places in the batch.
            identities: whose the inputs are.
            expected_seconds: what the batch should take.

        Raises:
            BatchFailedError: if it came to nothing and the device is well.
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
            # One of the two places where anything may be caught: the batch fails, the engine
            # lives on unless its device does not.
            fault = await self.do(runner.fault_of, error)
            metrics.BATCH_FAULTS.labels(queue.task, fault).inc()
            if fault is Fault.DEVICE_LOST:
                raise DeviceFailedError(f"The device is lost: {error}") from error
            logger.exception("A %s batch of %d failed (%s).", queue.task, size, fault)
            self._journal.end()
            raise BatchFailedError(fault) from error
        self._journal.end()
        return result
