"""Replacement of the command line's process, which is torch-free, by one with torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from service.commands.console.signals import hold_signals
from service.processes.environment import engine_environment


def exec_module(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by one that runs a module, with an engine's environment."""
    os.environ.update(engine_environment())
    # -P: the working folder may hold another package called "model" or "service".
    command = [sys.executable, "-P", "-m", module, *arguments]
    hold_signals()
    os.execv(sys.executable, command)  # noqa: S606 - no shell is needed
