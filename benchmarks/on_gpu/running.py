"""Run the sections, each within its budget, in processes that can be given up."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from benchmarks.on_gpu.bench import BENCHMARKS, Bench, Section
from benchmarks.on_gpu.worker import COMPLETE, TIME_UP

KILL_SECONDS = 5.0
"""Seconds past a section's budget after which its process is killed."""

Message = dict[str, Any]


class Worker(Protocol):
    """A process that runs sections, one after the other."""

    def begin(self, section: Section, until_seconds: float, *, release: bool) -> None:
        """Start a section; ``release`` if no later section uses what it shares."""

    def message(self, until_seconds: float) -> Message | None:
        """Return the next row or end; None if none comes in time."""

    def end(self) -> None:
        """End the process and everything that it has started."""


class WorkerProcess:
    """A process of ``benchmarks.on_gpu.worker``.

    Args:
        bench: the device and the folder of results.
        environment: of the process.
        table: module with the sections by name.
    """

    def __init__(
        self,
        bench: Bench,
        environment: dict[str, str],
        table: str = "benchmarks.on_gpu.sections",
    ) -> None:
        program = [sys.executable, "-m", "benchmarks.on_gpu.worker", table]
        program += [str(bench.device), str(bench.output.absolute())]
        self._process = subprocess.Popen(
            [*program, "quick"] if bench.quick else program,
            cwd=BENCHMARKS.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._messages.put(json.loads(line))
        self._messages.put({"end": "failed: its process ended; standard error says more"})

    def begin(self, section: Section, until_seconds: float, *, release: bool) -> None:
        """Start a section; ``release`` if no later section uses what it shares."""
        command = {"section": section.name, "until_seconds": until_seconds, "release": release}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is a message
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()

    def message(self, until_seconds: float) -> Message | None:
        """Return the next row or end; None if none comes in time."""
        try:
            return self._messages.get(timeout=max(until_seconds - time.monotonic(), 0.0))
        except queue.Empty:
            return None

    def end(self) -> None:
        """Kill the process and everything that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # A process that waits inside a driver may outlive its kill: nothing waits for it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._reader.join(1.0)


def run_sections(
    sections: Sequence[Section],
    launch: Callable[[], Worker],
    report: dict[str, Any],
    write: Callable[[], None],
    run_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Run the sections in order, and write the report after every row.

    A section that fails or hangs is reported so, and the next one runs in a process of its own.

    Args:
        sections: of the run.
        launch: starts a process.
        report: gets the sections' entries.
        write: writes the report to its files.
        run_seconds: after which nothing runs any more.
        clock: the monotonic clock.

    Returns:
        Whether no gate failed; after one that did, no section runs.
    """
    ends = clock() + run_seconds
    worker: Worker | None = None
    try:
        for place, section in enumerate(sections):
            later = sections[place + 1 :]
            entry: dict[str, Any] = {"title": section.title, "of_seconds": section.seconds}
            entry |= {"rows": [], "end": "running", "seconds": 0.0}
            report["sections"][section.name] = entry
            start = clock()
            kept_seconds = sum(each.seconds for each in later if each.is_last_duty)
            own_end = ends - kept_seconds
            if start >= own_end:
                entry["end"] = "not begun: the time was up"
                write()
                continue
            if worker is not None and section.own_process:
                worker.end()
                worker = None
            worker = worker or launch()
            until = min(start + section.seconds, own_end)
            release = all(each.release != section.release for each in later)
            worker.begin(section, until, release=release)
            _follow(worker, entry, min(until + KILL_SECONDS, own_end), write)
            entry["seconds"] = round(clock() - start, 1)
            passed = entry["end"] in {COMPLETE, TIME_UP}
            print(f"{section.name}: {entry['end']}, {entry['seconds']} s", flush=True)
            write()
            if section.own_process or not passed:
                worker.end()
                worker = None
            if section.is_gate and not passed:
                return False
    finally:
        if worker is not None:
            worker.end()
    return True


def _follow(
    worker: Worker, entry: dict[str, Any], until_seconds: float, write: Callable[[], None]
) -> None:
    """Enter a section's rows and its end into its entry."""
    while True:
        message = worker.message(until_seconds)
        if message is None:
            entry["end"] = "failed: it hung, and its process was killed"
            return
        if "row" in message:
            entry["rows"].append(message["row"])
            print(f"  {message['row']}", flush=True)
            write()
            continue
        entry |= message
        return
