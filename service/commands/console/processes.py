"""Becomes a process with torch: the command line's own is kept free of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from service.processes.environment import engine_environment


def exec_module(module: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by one that runs a module, with an engine's environment."""
    os.environ.update(engine_environment())
    # -P: the user's folder may well hold a "model" or a "service" that is not ours.
    command = [sys.executable, "-P", "-m", module, *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
