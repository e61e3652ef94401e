"""Logging of all processes to standard error: text lines for people, JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

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


def _facts(record: logging.LogRecord) -> dict[str, object]:
    """Return the attributes that were passed as ``extra``."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def configure_logging(log_format: Literal["text", "json"], process: str) -> None:
    """Send every log line of this process to standard error.

    Args:
        log_format: as in the settings.
        process: name of this process, such as "engine-0".
    """
    formatter = _JsonFormatter(process) if log_format == "json" else _TextFormatter(process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It logs a caller's malformed form as an error; the caller gets a problem, which is counted.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    # They log every URL, also the signed ones that a download is redirected to.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    # Its start and stop lines repeat the supervisor's.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
