"""Notice that a cluster has lost machines that a run counts on.

Ray starts the actors of a lost machine again where there is room. Where there is none it waits for
another machine, without a word, and so would the run.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pyarrow as pa

INTERVAL_SECONDS = 2.0
"""Between two looks at a cluster from which no results come."""

PATIENCE_SECONDS = 60.0
"""How long another machine may take to come in the place of a lost one."""


SIGNAL = signal.SIGUSR1
"""From the thread that looks at the cluster to the one that waits for results."""


class MachinesLostError(Exception):
    """What is left of a cluster has no room for a run's actors."""


def watched(
    tables: Iterator[pa.Table],
    has_room: Callable[[], bool],
    *,
    interval_seconds: float = INTERVAL_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Iterator[pa.Table]:
    """Pass tables on as long as the cluster has room for the actors that make them.

    Another thread looks at the cluster. It stops the wait for a table as Ctrl-C does, by a signal:
    so Ray Data ends what it began, and nothing of it is left when the connection to Ray ends.

    Args:
        tables: of the results; they are taken in the main thread.
        has_room: whether the machines of the cluster have room for all actors.
        interval_seconds: between two looks at the cluster, while no table comes.
        patience_seconds: how long there may be no room.

    Raises:
        MachinesLostError: if no table comes, and there was no room for that long.
    """
    while True:
        with _looking(has_room, interval_seconds, patience_seconds):
            table = next(tables, None)
        if table is None:
            return
        yield table


@contextmanager
def _looking(
    has_room: Callable[[], bool], interval_seconds: float, patience_seconds: float
) -> Iterator[None]:
    came, faults = threading.Event(), list[Exception]()
    roomy_at_seconds = time.monotonic()

    def look() -> None:
        nonlocal roomy_at_seconds
        try:
            while not came.wait(interval_seconds):
                if has_room():
                    roomy_at_seconds = time.monotonic()
                elif time.monotonic() - roomy_at_seconds > patience_seconds:
                    raise MachinesLostError("The cluster has lost machines that this run had.")
        except Exception as error:  # noqa: BLE001 - raised where the table is waited for
            faults.append(error)
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)

    def stop(_: int, __: FrameType | None) -> None:
        if not came.is_set():
            raise faults[0]

    before = signal.signal(SIGNAL, stop)
    thread = threading.Thread(target=look, name="machines")
    thread.start()
    try:
        yield
    finally:
        came.set()
        thread.join()
        signal.signal(SIGNAL, before)
