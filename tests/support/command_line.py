"""Runs ``overlock`` as a user does, in a process of its own."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

OVERLOCK = str(Path(sys.executable).with_name("overlock"))

PATIENCE_SECONDS = 100.0


def environment() -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("OVERLOCK_")}
    # Numbers are compared with float32's; auto would follow the machine.
    return own | {"OVERLOCK_DTYPE": "float32", "TERM": "xterm"}


def overlock(
    *words: str,
    folder: Path | None = None,
    stdin: bytes | None = None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, all of its streams in pipes."""
    return subprocess.run(
        [OVERLOCK, *words],
        cwd=folder,
        env=environment() | dict(variables or {}),
        input=stdin or b"",
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )


def overlock_on_a_terminal(
    *words: str, folder: Path | None = None, interrupt_after: bytes | None = None, **variables: str
) -> tuple[int, bytes]:
    """Run a command with all of its streams on a terminal.

    Args:
        words: the command's.
        folder: where it runs.
        interrupt_after: Ctrl-C is typed once this is on the screen.
        variables: of the environment.

    Returns:
        The exit code, and all that was written.
    """
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    process = subprocess.Popen(
        [OVERLOCK, *words],
        cwd=folder,
        env=environment() | variables,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    written, until = b"", time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # the last writer has closed the terminal
            break
        written += piece
        if interrupt_after is not None and interrupt_after in written:
            interrupt_after = None
            os.killpg(process.pid, signal.SIGINT)
    os.close(controller)
    return process.wait(PATIENCE_SECONDS), written
