"""A process that runs sections on command, and its end if one of them hangs.

    python -m benchmarks.on_gpu.worker TABLE DEVICE OUTPUT [quick]

TABLE is a module with ``SECTIONS``. Each line of the standard input names a section and the moment
at which its budget ends; every row and the section's end are a line of the standard output.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.on_gpu.bench import Bench, Section

COMPLETE, TIME_UP = "complete", "stopped: its time was up"

EXIT_SECONDS = 3.0
"""Seconds past its budget after which a process that hangs prints its stacks and exits."""

REMINDER_SECONDS = 30.0
"""Seconds after which a row is aborted once more, since Python drops what is raised in a finalizer.
A server that a section has started stops within that time."""

Send = Callable[[dict[str, Any]], None]


class SectionOverdueError(Exception):
    """A row was still running when its section's budget ended."""


def run_section(section: Section, bench: Bench, until_seconds: float, send: Send) -> bool:
    """Run a section's rows until they or its budget end; return whether nothing failed.

    Args:
        section: the section.
        bench: the device.
        until_seconds: end of its budget, on the monotonic clock.
        send: called with every row, and with the end.
    """
    try:
        with _aborted_at(until_seconds):
            for row in section.rows(bench):
                send({"row": {name: _rounded(value) for name, value in row.items()}})
                if time.monotonic() > until_seconds:
                    send({"end": TIME_UP})
                    return True
    except Exception as error:  # noqa: BLE001 - any failure is reported, and other sections run
        end = f"failed: {type(error).__name__}: {str(error).strip()[:300]}"
        send({"end": end, "error": "".join(traceback.format_exception(error))[-6000:]})
        return False
    send({"end": COMPLETE})
    return True


@contextlib.contextmanager
def _aborted_at(until_seconds: float) -> Iterator[None]:
    """Raise ``SectionOverdueError`` in a block that runs longer, once Python code runs again.

    A call that waits for a hanging device never returns to Python: then the process exits.
    """

    def abort(_signal: int, _frame: FrameType | None) -> None:
        raise SectionOverdueError("not done when its budget ended")

    left_seconds = max(until_seconds - time.monotonic(), 0.001)
    faulthandler.dump_traceback_later(left_seconds + EXIT_SECONDS, exit=True)
    handler = signal.signal(signal.SIGALRM, abort)
    signal.setitimer(signal.ITIMER_REAL, left_seconds, REMINDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        faulthandler.cancel_dump_traceback_later()


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    table, device, output, *flags = sys.argv[1:]
    with os.fdopen(os.dup(1), "w", buffering=1) as messages:
        os.dup2(2, 1)  # whatever a library prints is no message

        def send(message: dict[str, Any]) -> None:
            messages.write(json.dumps(message, default=str) + "\n")

        bench = Bench(torch.device(device), "quick" in flags, Path(output))
        faulthandler.enable()
        bench.set_up()
        sections: dict[str, Section] = importlib.import_module(table).SECTIONS
        for line in sys.stdin:
            command = json.loads(line)
            section = sections[command["section"]]
            # A process in which something failed is given up: its device may answer no more.
            if not run_section(section, bench, command["until_seconds"], send):
                break
            if command["release"] and section.release is not None:
                section.release()
            bench.forget_memory()


if __name__ == "__main__":
    main()
