"""The real service, started as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Self

import httpx

from support.shared_log import text_so_far

START_SECONDS = 90.0
"""Far above the usual few seconds: the machine may be busy with other things."""

CLIENT = httpx.Client(limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
"""Sends each request over a connection of its own, from any thread.

So do httpx's functions; but they read all certificates of the machine each time, in 40 ms.
"""


class RunningService:
    """``overlock serve`` with the given settings; ready when entered, stopped when left.

    Args:
        prefix: command that starts the service's command in its own place.
        settings: by field name.

    Attributes:
        start_seconds: how long entering waits.
    """

    def __init__(self, prefix: Sequence[str] = (), /, **settings: str | int) -> None:
        self.start_seconds = START_SECONDS
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._last_log = ""
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OVERLOCK_")}
        # Numbers are compared with float32's; auto would follow the machine.
        environment["OVERLOCK_DTYPE"] = "float32"
        environment |= {f"OVERLOCK_{name.upper()}": str(value) for name, value in settings.items()}
        environment["OVERLOCK_PORT"] = str(self.port)
        self.process = subprocess.Popen(
            [*prefix, str(Path(sys.executable).with_name("overlock")), "serve"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._log.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._last_log = self.log
        self._log.close()

    @property
    def log(self) -> str:
        """Everything that the service printed so far."""
        if self._log.closed:
            return self._last_log
        return text_so_far(self._log)

    def wait_ready(self) -> None:
        """Wait until the service takes requests."""
        until = time.monotonic() + self.start_seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, f"the service ended:\n{self.log}"
            try:
                if CLIENT.get(f"{self.url}/readyz").status_code == 200 and "is ready" in self.log:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"the service was not ready in time:\n{self.log}")

    def wait_for(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until a condition holds."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"waited in vain:\n{self.log}"
            time.sleep(0.01)

    def get(self, path: str) -> httpx.Response:
        """Send a GET request."""
        return CLIENT.get(self.url + path)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def metric(self, name: str, labels: str = "") -> float:
        """Return the sum of a metric's samples whose labels contain a text."""
        text = CLIENT.get(f"{self.url}/metrics").text
        samples = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for found, value in samples if labels in found)

    def children(self, module: str) -> list[int]:
        """Return the process ids of the service's children that run a module."""
        pids = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if module in words and parent == self.process.pid:
                pids.append(int(entry.name))
        return pids


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
