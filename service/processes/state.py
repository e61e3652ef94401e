"""Messages of the supervisor to the HTTP workers: the state of the service, answers to requests."""

from __future__ import annotations

from typing import Literal

import msgspec

from service.api.errors import ServiceError


class ConfiguredModel(msgspec.Struct, frozen=True):
    """A model that the settings or the models file state.

    Attributes:
        name: in answers, metrics, logs and ``/v1/models``.
        state: READY where it is served; UNAVAILABLE where it was unloaded.
        reason: why it is not served, or why its last load failed; empty where it is as it should
            be.
    """

    name: str
    state: Literal["READY", "UNAVAILABLE"] = "READY"
    reason: str = ""


class ServiceState(msgspec.Struct, frozen=True, tag=True):
    """The state of the service. It is sent whole, so that each message replaces the one before.

    Attributes:
        generation: number of the engines that are to take new requests.
        engines: paths of their sockets.
        shown: the generation that ``/v1/models`` may describe: each HTTP worker sends requests to
            it, or to a later one.
        reload_error: why the last reload left the generation before it serving; None if it did not.
        models: the configured models, as the shown generation serves them.
    """

    generation: int
    engines: tuple[str, ...]
    shown: int
    reload_error: str | None = None
    models: tuple[ConfiguredModel, ...] = ()


class ChangeOutcome(msgspec.Struct, frozen=True, tag=True):
    """The answer to an HTTP worker's request to load or unload a model.

    Attributes:
        request_id: of the request.
        slug: of the error that it ended with; None where it is done.
        detail: of the error.
        retry_after_seconds: of the error.
    """

    request_id: str
    slug: str | None = None
    detail: str = ""
    retry_after_seconds: float | None = None

    @property
    def error(self) -> ServiceError | None:
        """The error that it ended with; None where it is done."""
        if self.slug is None:
            return None
        return ServiceError.rebuilt(self.slug, self.detail, self.retry_after_seconds)


def line_of(message: ServiceState | ChangeOutcome) -> bytes:
    """Return a message for an HTTP worker's standard input."""
    return msgspec.json.encode(message) + b"\n"


message_of = msgspec.json.Decoder(ServiceState | ChangeOutcome).decode
state_of = msgspec.json.Decoder(ServiceState).decode
