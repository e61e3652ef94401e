"""HTTP workers' requests for changes of the models, as the supervisor takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from service.api.errors import LoadFailedError, NotReadyError, ServiceError
from service.processes.child import Child
from service.processes.model_control import ControlRequest
from service.processes.reloads import ReloadError, StoppingError
from service.processes.selection import Change
from service.processes.state import ChangeOutcome, line_of


def take_request(
    worker: Child, facts: dict[str, Any], ask: Callable[[Change], asyncio.Future[int]]
) -> None:
    """Make the change that an HTTP worker asks for, and send it the outcome.

    Args:
        worker: that asks.
        facts: of a ``ControlRequest``.
        ask: asks for a change, as ``Reloads.ask``.
    """
    request = msgspec.convert(facts, ControlRequest)

    def answer(done: asyncio.Future[int]) -> None:
        if not done.cancelled():
            worker.send(line_of(_outcome(request.request_id, done.exception())))

    ask(request.change).add_done_callback(answer)


def _outcome(request_id: str, error: BaseException | None) -> ChangeOutcome:
    """Return the outcome of a change, for its caller."""
    match error:
        case None:
            return ChangeOutcome(request_id)
        case ServiceError():
            known = error
        case ReloadError():
            known = LoadFailedError(str(error))
        case StoppingError():
            known = NotReadyError("The service is stopping.", retry_after_seconds=1.0)
        case _:
            raise error
    return ChangeOutcome(request_id, known.slug, known.detail, known.retry_after_seconds)
