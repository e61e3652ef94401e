"""Sections that fail in the ways that a GPU's do, for the benchmark's processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

from benchmarks.on_gpu.bench import Bench, Row, Section


def two_rows(_: Bench) -> Iterator[Row]:
    yield {"model": "a", "ms": 1.23456789}
    yield {"model": "b", "ms": None}


def raises(_: Bench) -> Iterator[Row]:
    yield {"model": "a"}
    raise RuntimeError("no such kernel")


def waits_for_ever(_: Bench) -> Iterator[Row]:
    """Wait in Python."""
    yield {"model": "a"}
    threading.Event().wait()


def hangs(_: Bench) -> Iterator[Row]:
    """Wait as a call does that never returns to Python: no signal arrives."""
    yield {"model": "a"}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)


SECTIONS = {
    "good": Section("good", "Good", 60, two_rows),
    "raising": Section("raising", "Raising", 60, raises),
    "waiting": Section("waiting", "Waiting", 10, waits_for_ever),
    "hanging": Section("hanging", "Hanging", 1, hangs),
}
