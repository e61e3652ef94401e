"""Containers of an image, run by runc as Docker does it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self

from support.shared_log import text_so_far


class Container:
    """A container with a read-only root, no capabilities and a network of its own.

    Args:
        root: the image's files.
        configuration: the image's, as Docker reads it.
        folder: for the container's own files; its ``cache`` is the cache volume.
        command: what to run in the place of the image's command.
        environment: variables beside the image's.
        user: its numeric id, in the place of the image's user; the cache is then a volume that
            everyone may write to, as Kubernetes makes it.
        read_only: folders of this machine, by their path inside.
        port: that the service listens on.
    """

    def __init__(
        self,
        root: Path,
        configuration: dict[str, Any],
        folder: Path,
        command: Sequence[str] | None = None,
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        user: int | None = None,
        read_only: Mapping[str, Path] = MappingProxyType({}),
        port: int = 8000,
    ) -> None:
        self._port = port
        self._name = folder.name
        self._state = folder / "state"
        self._runc = ("runc", "--root", str(self._state))
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        cache = folder / "cache"
        cache.mkdir()
        cache.chmod(0o700 if user is None else 0o777)
        uid, gid = map(int, configuration["User"].split(":")) if user is None else (user, 0)
        if user is None:
            subprocess.run(["chown", f"{uid}:{gid}", cache], check=True)
        subprocess.run(["runc", "spec"], cwd=folder, check=True)
        path = folder / "config.json"
        spec = json.loads(path.read_text())
        spec["root"] = {"path": str(root), "readonly": True}
        words = configuration["Cmd"] if command is None else list(command)
        stated: dict[str, str] = dict(each.split("=", 1) for each in configuration["Env"])
        spec["process"] |= {
            "terminal": False,
            "user": {"uid": uid, "gid": gid},
            "args": [*configuration["Entrypoint"], *words],
            "env": [f"{name}={value}" for name, value in {**stated, **environment}.items()],
            "capabilities": {},
        }
        temporary = {
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["mode=1777", "nosuid", "nodev"],
        }
        spec["mounts"] += [
            {"destination": "/tmp", **temporary},
            _bound("/var/cache/overlock", cache, "rw"),
            *(_bound(inside, outside, "ro") for inside, outside in read_only.items()),
        ]
        path.write_text(json.dumps(spec))
        self.process = subprocess.Popen(
            [*self._runc, "run", "--bundle", str(folder), self._name],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            subprocess.run([*self._runc, "kill", self._name, "KILL"], check=True)
            self.process.wait()
        self._log.close()

    @property
    def log(self) -> str:
        """Everything that the container printed so far."""
        return text_so_far(self._log)

    def wait_for(self, text: str, seconds: float = 90.0) -> None:
        """Wait until the log has a text."""
        until = time.monotonic() + seconds
        while text not in self.log:
            assert self.process.poll() is None, f"the container ended:\n{self.log}"
            assert time.monotonic() < until, f"waited in vain for {text!r}:\n{self.log}"
            time.sleep(0.05)

    def wait_for_a_process(self, seconds: float = 30.0) -> None:
        """Wait until the container's command was started, and no longer."""
        until = time.monotonic() + seconds
        while not (self._state / self._name / "state.json").exists():
            assert time.monotonic() < until, self.log
        while json.loads(self._output("state", self._name))["status"] != "running":
            assert time.monotonic() < until, self.log

    def curl(self, path: str, *options: str, body: bytes = b"") -> bytes:
        """Send a request from inside the container's network, with this machine's curl."""
        state = json.loads(self._output("state", self._name))
        enter = ("nsenter", f"--net=/proc/{state['pid']}/ns/net")
        url = f"http://127.0.0.1:{self._port}{path}"
        command = [*enter, "curl", "--silent", "--show-error", "--fail-with-body", *options, url]
        return subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True).stdout

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command in the container."""
        command = [*self._runc, "exec", self._name, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def stop(self, signal: str = "TERM", timeout: float = 30.0) -> int:
        """Send a signal to the container's first process and return the exit code."""
        self._output("kill", self._name, signal)
        return self.process.wait(timeout)

    def _output(self, *words: str) -> str:
        return subprocess.run(
            [*self._runc, *words], check=True, stdout=subprocess.PIPE, text=True
        ).stdout


def _bound(inside: str, outside: Path, mode: str) -> dict[str, Any]:
    """Return a mount of a folder of this machine."""
    return {
        "destination": inside,
        "type": "bind",
        "source": str(outside),
        "options": ["bind", mode],
    }
