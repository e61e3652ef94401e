"""Notice that a cluster has lost machines that a run counts on.

Ray starts the actors of a lost machine again where there is room. Where there is none it waits for
another machine, without a word, and so would the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pyarrow as pa

INTERVAL_SECONDS = 2.0
"""Between two looks at a cluster from which no results come."""

PATIENCE_SECONDS = 60.0
"""How long another machine may take to come in the place of a lost one."""


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

    Args:
        tables: of the results; they are taken in another thread, one at a time.
        has_room: whether the machines of the cluster have room for all actors.
        interval_seconds: between two looks at the cluster, while no table comes.
        patience_seconds: how long there may be no room.

    Raises:
        MachinesLostError: if no table comes, and there was no room for that long. The other thread
            ends with the connection to Ray.
    """
    thread = ThreadPoolExecutor(1)
    try:
        while True:
            coming: Future[pa.Table | None] = thread.submit(next, tables, None)
            _wait_for(coming, has_room, interval_seconds, patience_seconds)
            if (table := coming.result()) is None:
                return
            yield table
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _wait_for(
    coming: Future[pa.Table | None],
    has_room: Callable[[], bool],
    interval_seconds: float,
    patience_seconds: float,
) -> None:
    roomy_at_seconds = time.monotonic()
    while not wait([coming], interval_seconds).done:
        if has_room():
            roomy_at_seconds = time.monotonic()
        elif time.monotonic() - roomy_at_seconds > patience_seconds:
            raise MachinesLostError("The cluster has lost machines that this run had.")
