"""Messages of the supervisor to the HTTP workers: the engines, and the last reload's outcome."""

from __future__ import annotations

import msgspec


class ServiceState(msgspec.Struct, frozen=True):
    """The state of the service. It is sent whole, so that each message replaces the one before.

    Attributes:
        generation: number of the engines that are to take new requests.
        engines: paths of their sockets.
        shown: the generation that ``/v1/models`` may describe: each HTTP worker sends requests to
            it, or to a later one.
        reload_error: why the last reload left the generation before it serving; None if it did not.
    """

    generation: int
    engines: tuple[str, ...]
    shown: int
    reload_error: str | None = None


def line_of(state: ServiceState) -> bytes:
    """Return a message for an HTTP worker's standard input."""
    return msgspec.json.encode(state) + b"\n"


state_of = msgspec.json.Decoder(ServiceState).decode
