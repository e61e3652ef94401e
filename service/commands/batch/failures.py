"""The reason why a run stopped, in one sentence, out of what Ray made of it."""

from __future__ import annotations

import errno

from model.remote.addresses import RemoteError
from service.commands.console.exits import RefusedError, message_of
from service.engine.batches import DeviceFailedError

_SAID = (DeviceFailedError, RefusedError, RemoteError)
"""Errors whose messages are written for the user."""

STOPPING = (*_SAID, OSError)
"""Errors that end a run in order, beside Ray's own."""


class StoppedError(Exception):
    """A run stopped; what is done stays.

    Attributes:
        passes: whether the same command may get further without a change by the user.
    """

    def __init__(self, message: str, *, passes: bool = True) -> None:
        super().__init__(message)
        self.passes = passes


def stopped_by(error: Exception) -> StoppedError:
    """Return the error that says why a run stopped.

    Raises:
        Exception: the error itself, if it is one of this program's own.
    """
    for each in _chain(error):
        if isinstance(each, _SAID):
            return StoppedError(str(each), passes=not isinstance(each, RefusedError))
        if isinstance(each, OSError):
            return StoppedError(f"{_file_of(each)}{_reason(each)}.")
    name = type(error).__name__
    if name in {"ActorDiedError", "WorkerCrashedError", "OutOfMemoryError", "NodeDiedError"}:
        return StoppedError(f"A process of Ray's has died: {_first_line(error)}")
    if name.startswith(("RayTaskError", "UserCodeException", "RayDataUserCode")):
        raise error
    return StoppedError(f"Ray has failed ({name}): {_first_line(error)}")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those behind it, as Python chains them and as Ray does."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is not None and each not in found:
            found.append(each)
            waiting += [getattr(each, "cause", None), each.__cause__, each.__context__]
    return found


def _file_of(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else "The results cannot be written: "


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return error.strerror or message_of(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:300]
