"""Logging of all processes to standard error: text lines for people, JSON for programs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import nullcontext, suppress
from typing import Literal, TextIO

ACCESS = "service.access"
"""The logger of the lines about requests."""

ACCESS_SECONDS = 0.05
"""Seconds for which such lines are collected, to be written by one call."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _TextFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s %(levelname)-7s {process:<10} %(message)s", datefmt="%H:%M:%S"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        line = super().formatMessage(record)
        facts = " ".join(f"{name}={value}" for name, value in _facts(record).items())
        return f"{line} {facts}" if facts else line


class _Handler(logging.StreamHandler[TextIO]):
    """Writes the lines about requests together, soon after the answers, and all others at once.

    A line about a request that is due when its process is killed is lost.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
        except Exception:  # noqa: BLE001 - as every handler of the library
            self.handleError(record)
            return
        if record.name != ACCESS:
            self.flush()
        elif len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_later(ACCESS_SECONDS, self.flush)
            except RuntimeError:  # no loop runs in this thread
                self.flush()

    def flush(self) -> None:
        """Write what is due; where standard error is closed or full, there is nowhere to say so."""
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            lines, self._lines = "".join(self._lines), []
            if lines:
                self.stream.write(lines)
            super().flush()


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """Return the attributes that were passed as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def configure_logging(log_format: Literal["text", "json"], process: str) -> None:
    """Send every log line of this process to standard error.

    Args:
        log_format: as in the settings.
        process: name of this process, such as "engine-0".
    """
    # No line names its source, thread or process's number: they need not be looked up.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    formatter = _JsonFormatter(process) if log_format == "json" else _TextFormatter(process)
    handler = _Handler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It logs a caller's malformed form as an error; the caller gets a problem, which is counted.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    # They log every URL, also the signed ones that a download is redirected to.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    # Its start and stop lines repeat the supervisor's.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
