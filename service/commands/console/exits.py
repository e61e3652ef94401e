"""How a command ends: its exit code, and words instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

DONE = 0
FAILED = 1
"""Something of what was asked for failed; the rest is done."""

REFUSED = 2
"""Nothing was begun: an option, a setting or the service is not as it has to be."""

INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell shows the end by SIGPIPE: who read the output has seen enough."""

EXIT_CODES = f"""\
exit codes:
  {DONE}    all done
  {FAILED}    some of it failed; the rest is done
  {REFUSED}    nothing was done: a wrong option or setting, weights that do not fit, no service
  {INTERRUPTED}  Ctrl-C
  {BROKEN_PIPE}  who read the output has closed it"""


class RefusedError(Exception):
    """A command cannot begin; the message says what to change, a line for each."""


def run_to_exit(command: Callable[[], int], program: str = "overlock") -> NoReturn:
    """Run a command and end the process.

    Args:
        command: returns the exit code.
        program: what complaints begin with.
    """
    code: int | str | None
    try:
        try:
            code = command()
        except SystemExit as end:  # argparse's, after --help too
            code = end.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Python flushes at its end once more; that shall have somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    except _foreseen() as error:
        print_error(str(error), program)
        code = REFUSED
    sys.exit(code)


def print_error(message: str, program: str = "overlock") -> None:
    """Say on the standard error stream what is wrong."""
    for line in message.splitlines():
        sys.stderr.write(f"{program}: {line}\n")


def _foreseen() -> tuple[type[Exception], ...]:
    """Return errors that have words for the user.

    They are imported when there is one: a command that needs none of their libraries is quick.
    """
    from service.client.errors import ClientError
    from service.settings import SettingsError

    return (RefusedError, SettingsError, ClientError, OSError)
