"""A contestant's server: pinned to a core, ready when entered, and gone when left."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO, Self

from benchmarks.serving.contestants import Contestant
from benchmarks.serving.environments import REPOSITORY, checkout_environment, environment_bin
from benchmarks.serving.payload import Payload
from benchmarks.serving.processes import family_of
from service.commands.bench.connection import Endpoint

START_SECONDS = 120.0
STOP_SECONDS = 20.0


class ServerFailedError(Exception):
    """A server ended by itself, or never answered."""


class RunningServer:
    """A contestant that answers when entered and is gone when left.

    Args:
        contestant: what to start.
        payload: sent until it is answered.
        cores: that it may use, in the form of ``taskset``.
        threads: of torch; None for torch's default.
    """

    def __init__(
        self, contestant: Contestant, payload: Payload, cores: str, threads: int | None = None
    ) -> None:
        self.port = free_port()
        self.path = contestant.path
        self._name = contestant.name
        self._payload = payload
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        folder = environment_bin(contestant.requirements)
        python = str(folder / "python") if contestant.requirements else sys.executable
        places = {"bin": str(folder), "python": python, "port": str(self.port)}
        command = [word.format(**places) for word in contestant.command]
        variables = {name: value.format(**places) for name, value in contestant.variables.items()}
        if threads is not None:
            variables["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            # The server ends with this process, even if that is killed.
            ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", cores, *command],
            cwd=REPOSITORY,
            env=checkout_environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        family = family_of(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in family[1:]:
            _kill_own(pid)
        self._log.close()

    @property
    def target(self) -> Endpoint:
        """The route that the payloads are sent to."""
        return Endpoint("127.0.0.1", self.port, self.path)

    @property
    def family(self) -> list[int]:
        """Process ids of the server and its descendants."""
        return family_of(self.process.pid)

    def post(self) -> tuple[int, bytes]:
        """Send the payload; return the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        try:
            connection.request(
                "POST", self.path, self._payload.body, {"Content-Type": "image/jpeg"}
            )
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _wait_until_it_answers(self) -> None:
        until, last = time.monotonic() + START_SECONDS, "nothing"
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise ServerFailedError(f"{self._name} ended:\n{self._read_log()}")
            try:
                status, body = self.post()
                if status == 200:
                    return
                last = f"{status} {body[:300]!r}"
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
            time.sleep(0.1)
        raise ServerFailedError(f"{self._name} answered {last}:\n{self._read_log()}")

    def _read_log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-4000:]


def _kill_own(pid: int) -> None:
    """End a descendant that outlived its parent."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
