"""A cluster of Ray on this machine: two nodes, each a ``ray start`` in a session of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from support.batch_runs import PATIENCE_SECONDS, processes_of
from support.command_line import environment
from support.manifests import ROOT
from support.running_service import free_port

RAY = str(Path(sys.executable).with_name("ray"))

HEAD, OTHER = "127.0.0.3", "127.0.0.4"
"""Ray takes 127.0.0.1 for the name of a machine that has another address, too."""

STARTED = b"will now block forever"

MAX_ENDING_ROUNDS = 100


class RayCluster:
    """Two nodes, of which one can be killed; their processes find the tests' own modules.

    Args:
        cpus: that each node counts.
        gpus: that each node counts, whatever the machine has.
    """

    def __init__(self, *, cpus: int, gpus: int = 0) -> None:
        self._resources = [f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        self.address = f"{HEAD}:{free_port()}"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self.variables = environment() | {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # conftest.py forbids a second node
            "RAY_USAGE_STATS_ENABLED": "0",
            # A dead node is known after two seconds instead of fifteen; a busy one has ten as ever.
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        # Not a test's own folder, whose path is too long for Ray's sockets.
        self._folder = Path(tempfile.mkdtemp(prefix="ov-cluster-", dir="/tmp"))
        try:
            port = self.address.split(":")[1]
            client_port = f"--ray-client-server-port={free_port()}"  # it has one in any case
            unused = ("--include-dashboard=false", "--no-monitor", client_port)
            self._start(HEAD, "--head", f"--port={port}", *unused)
            self._start(OTHER, f"--address={self.address}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        for node in self._nodes:
            for _ in range(MAX_ENDING_ROUNDS):
                if not (left := processes_of(node.pid)):
                    break
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, address: str, *words: str) -> None:
        folder = self._folder / address
        store = f"--object-store-memory={128 * 2**20}"
        command = [RAY, "start", *words, f"--node-ip-address={address}", f"--temp-dir={folder}"]
        log = self._folder / f"{address}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                [*command, *self._resources, store, "--include-log-monitor=false", "--block"],
                cwd=self._folder,
                env=self.variables,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._nodes.append(node)
        until = time.monotonic() + PATIENCE_SECONDS
        while STARTED not in log.read_bytes():
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def wait_for_a_network_on_the_other(self, run: subprocess.Popen[bytes]) -> None:
        """Wait until the node that can be killed has something to lose of a run."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not any("Predictor" in words for words in processes_of(self._nodes[1].pid).values()):
            assert run.poll() is None, "the run has ended"
            assert time.monotonic() < until, "no network there"
            time.sleep(0.2)

    def kill_the_other(self) -> None:
        """Kill the second node's raylet, with which its actors end."""
        found = processes_of(self._nodes[1].pid)
        (raylet,) = [pid for pid, words in found.items() if "/raylet/raylet " in words]
        os.kill(raylet, signal.SIGKILL)
