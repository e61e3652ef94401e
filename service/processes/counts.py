"""Counters of restarts and reloads, written by the supervisor.

It cannot leave that to the processes: one that dies before its first line would count nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import Counter
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from service import metrics

COUNTERS = (
    metrics.ENGINE_RESTARTS,
    metrics.HTTP_WORKER_RESTARTS,
    metrics.RELOADS,
    metrics.RELOAD_FAILURES,
)


class SupervisorCounts:
    """The supervisor's file among the metrics of all processes, in prometheus_client's format.

    Args:
        folder: of the metrics.

    Raises:
        OSError: if there is no space for it.
    """

    def __init__(self, folder: Path) -> None:
        path = metrics.reserve_file(folder, "counter")
        self._values = MmapedDict(str(path))  # type: ignore[no-untyped-call]
        for counter in COUNTERS:
            self._write(counter, 0.0)

    def increment(self, counter: Counter) -> None:
        """Count one more, for a counter without labels."""
        value, _ = self._values.read_value(_key(counter))  # type: ignore[no-untyped-call]
        self._write(counter, value + 1.0)

    def close(self) -> None:
        """Close the file; what was counted stays in it."""
        self._values.close()  # type: ignore[no-untyped-call]

    def _write(self, counter: Counter, value: float) -> None:
        self._values.write_value(_key(counter), value, time.time())  # type: ignore[no-untyped-call]


def _key(counter: Counter) -> str:
    (family,) = counter.describe()
    return mmap_key(family.name, f"{family.name}_total", [], [], family.documentation)
