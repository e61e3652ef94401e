"""The exit codes of every command, and messages instead of tracebacks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from service.commands.console.signals import (
    INTERRUPTED,
    TERMINATED,
    end_at_once,
    raising_signals,
)

DONE = 0
FAILED = 1
"""Some of the work failed; the rest is done."""

REFUSED = 2
"""Nothing was done: an option, a setting, weights, a device or the service is wrong or missing."""

BROKEN_PIPE = 141
"""The code that a shell shows after SIGPIPE: the reader of the output has closed it."""

EXIT_CODES = f"""\
exit codes:
  {DONE}    all done
  {FAILED}    some of it failed; the rest is done
  {REFUSED}    nothing was done: a wrong option or setting, wrong or missing weights,
       no such device, a failed download, no service
  {INTERRUPTED}  Ctrl-C (serve: {DONE}, since it stops in order)
  {BROKEN_PIPE}  the reader of the output has closed it
  {TERMINATED}  SIGTERM (serve: {DONE})"""


class RefusedError(Exception):
    """A command cannot do anything; each line of the message names something to change."""


def run_to_exit(command: Callable[[], int], program: str = "overlock") -> NoReturn:
    """Run a command and exit with its code, or with that of the error it raises.

    Args:
        command: returns the exit code.
        program: prefix of each line of an error message.
    """
    code: int | str | None
    signalled: list[int] = []
    try:
        with raising_signals(signalled):
            try:
                code = command()
            except SystemExit as end:  # argparse's, after --help too
                code = end.code
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = next(iter(signalled), INTERRUPTED)
    except BrokenPipeError:
        # The interpreter flushes once more at exit; that must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except _expected_errors() as error:
        print_error(message_of(error), program)
        code = REFUSED
    end_at_once()
    sys.exit(code)


def message_of(error: Exception) -> str:
    """Return an error's message; the system's own says the file first, and no number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def print_error(message: str, program: str = "overlock") -> None:
    """Write an error message to standard error."""
    for line in message.splitlines():
        sys.stderr.write(f"{program}: {line}\n")


def _expected_errors() -> tuple[type[Exception], ...]:
    """Return the errors whose message is written for the user.

    Imported here, once something was raised: a command that needs none of their libraries starts
    quickly.
    """
    from model.pretrained.assets import PretrainedError
    from model.remote.addresses import RemoteError
    from service.client.errors import ClientError
    from service.settings import SettingsError

    return (RefusedError, SettingsError, ClientError, PretrainedError, RemoteError, OSError)
