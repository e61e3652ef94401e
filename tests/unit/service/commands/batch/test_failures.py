from __future__ import annotations

import errno

import pytest

from service.commands.batch.failures import stopped_by
from service.engine.batches import DeviceFailedError


class RayTaskError(Exception):
    """Stand in for Ray's, which has what happened in an actor as its cause."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback\nof many lines")
        self.cause = cause


class ActorDiedError(Exception):
    """Stand in for Ray's."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RayTaskError(DeviceFailedError("The device is lost: x")), "The device is lost: x"),
        (OSError(errno.ENOSPC, "No space"), "The results cannot be written: the disk is full."),
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), "/d/x: Permission denied."),
        (ActorDiedError("It died.\nmore"), "A process of Ray's has died: It died."),
    ],
)
def test_a_run_says_in_a_sentence_why_it_stopped(error: Exception, said: str) -> None:
    assert str(stopped_by(error)) == said


def test_an_error_of_this_program_s_own_is_not_hidden() -> None:
    error = RayTaskError(KeyError("bug"))
    with pytest.raises(RayTaskError):
        stopped_by(error)
