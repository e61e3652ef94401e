"""An HTTP worker's model control: it asks the supervisor to load or unload a model by its name.

A request is a line on the worker's pipe for announcements, and its outcome a line on the worker's
standard input. A worker that dies leaves its requests behind: they are carried out, and nobody
takes their outcomes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from service.api.errors import ControlOffError, NotReadyError, ServiceError
from service.processes.selection import Action, Change, unknown_model
from service.processes.state import ChangeOutcome, ConfiguredModel
from service.settings import MODEL_NAME


class ModelControl(Protocol):
    """The configured models, and their changes.

    A caller of ``load`` and ``unload`` must hold no generation meanwhile: the one before ends only
    when nobody holds it. A caller that is cancelled cancels no change.
    """

    def models(self) -> list[ConfiguredModel]:
        """Return the configured models, in the order of the configuration."""

    async def load(self, name: str) -> None:
        """Read the models anew, with this one among those that are served.

        Returns once every HTTP worker sends new requests to the new engines.

        Raises:
            ControlOffError: if the settings do not allow it.
            UnknownModelError: if no model of that name is configured.
            LoadFailedError: if the new engines cannot start; those before go on serving.
            NotReadyError: if the service ends first.
        """

    async def unload(self, name: str) -> None:
        """Read the models anew, without this one.

        Returns once no HTTP worker sends new requests to it. Errors are those of ``load``, and:

        Raises:
            InvalidParameterError: if it is the only model that is served.
        """


class ControlRequest(msgspec.Struct, frozen=True):
    """A worker's request for a change.

    Attributes:
        request_id: of the outcome, too.
        change: a load or an unload.
    """

    request_id: str
    change: Change


class WorkerControl:
    """Model control in an HTTP worker.

    Args:
        models: the configured ones.
        allowed: whether models may be loaded and unloaded.
        send: sends facts to the supervisor.
    """

    def __init__(
        self,
        models: Sequence[ConfiguredModel],
        *,
        allowed: bool,
        send: Callable[[dict[str, object]], None],
    ) -> None:
        self._models = [*models]
        self._allowed = allowed
        self._send = send
        self._abandoned = False
        self._waiting: dict[str, asyncio.Future[ServiceError | None]] = {}

    def models(self) -> list[ConfiguredModel]:
        """Return the configured models."""
        return [*self._models]

    async def load(self, name: str) -> None:
        """Have a model loaded; see ``ModelControl``."""
        await self._change(Change(Action.LOAD, name))

    async def unload(self, name: str) -> None:
        """Have a model unloaded; see ``ModelControl``."""
        await self._change(Change(Action.UNLOAD, name))

    def take_models(self, models: Sequence[ConfiguredModel]) -> None:
        """Take the supervisor's word on the models."""
        self._models = [*models]

    def take_outcome(self, outcome: ChangeOutcome) -> None:
        """Answer the caller of a change, if it still waits."""
        self._resolve(outcome.request_id, outcome.error)

    def abandon(self) -> None:
        """Fail all callers, and every later one: the supervisor is gone."""
        self._abandoned = True
        for request_id in self._waiting:
            self._resolve(request_id, _gone())

    async def _change(self, change: Change) -> None:
        if not self._allowed:
            raise ControlOffError
        if not MODEL_NAME.fullmatch(change.name):
            raise unknown_model(change.name, [model.name for model in self._models])
        if self._abandoned:
            raise _gone()
        request_id = uuid.uuid4().hex
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            request = ControlRequest(request_id, change)
            self._send(msgspec.to_builtins(request))
            error = await answer
        finally:
            del self._waiting[request_id]
        if error is not None:
            raise error

    def _resolve(self, request_id: str, error: ServiceError | None) -> None:
        answer = self._waiting.get(request_id)
        if answer is not None and not answer.done():
            answer.set_result(error)


def _gone() -> NotReadyError:
    return NotReadyError("The service has ended before the answer.", retry_after_seconds=1.0)
