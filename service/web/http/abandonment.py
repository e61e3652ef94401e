"""The end of all requests at once, when the service has died around its HTTP workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from service.api.errors import NotReadyError

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class RequestsUnderWay:
    """The tasks that work on requests."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[object]] = set()
        self.abandoned = False

    def abandon(self) -> None:
        """Answer all of them, and every later one, with NotReadyError."""
        self.abandoned = True
        for task in self.tasks:
            task.cancel()


class _Owner(Protocol):
    under_way: RequestsUnderWay


OwnerT = TypeVar("OwnerT", bound=_Owner)


def abandonable(
    respond: Callable[Concatenate[OwnerT, P], Coroutine[Any, Any, ResultT]],
) -> Callable[Concatenate[OwnerT, P], Coroutine[Any, Any, ResultT]]:
    """Let a method's ``under_way.abandon()`` end it with NotReadyError, wherever it waits."""

    @wraps(respond)
    async def respond_unless_abandoned(
        self: OwnerT, /, *arguments: P.args, **options: P.kwargs
    ) -> ResultT:
        under_way, task = self.under_way, asyncio.current_task()
        assert task is not None
        if under_way.abandoned:
            raise _gone()
        under_way.tasks.add(task)
        try:
            return await respond(self, *arguments, **options)
        except asyncio.CancelledError:
            if under_way.abandoned and not task.uncancel():
                raise _gone() from None
            raise
        finally:
            under_way.tasks.discard(task)

    return respond_unless_abandoned


def _gone() -> NotReadyError:
    return NotReadyError("The service has ended while it worked on this.", retry_after_seconds=1.0)
