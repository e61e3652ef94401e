"""A program that makes a pass on demand: a contestant that does not run in this interpreter."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.processes.environment import engine_environment


class TimedProgram:
    """The process of a program that ends in ``benchmarks.exported_file.pass_on_demand``.

    Args:
        command: the program and its arguments.
        environment: its variables; by default this process's and an engine's.
    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command,
            env=os.environ | engine_environment() if environment is None else environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak_bytes = 0

    def run(self) -> float:
        """Make a pass and return its seconds.

        Raises:
            RuntimeError: if the program ended instead.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, peak = self.read_line().split()
        self.peak_bytes = int(peak)
        return float(seconds)

    def read_line(self) -> str:
        """Return the next line of what the program prints.

        Raises:
            RuntimeError: if the program ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command} ended with {self._process.wait()}.")
        return line

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
