"""The port for gRPC, which every HTTP worker opens by itself: the supervisor keeps it for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from service.settings import PREFIX, Settings


@contextmanager
def reserved_grpc_port(settings: Settings) -> Iterator[str | None]:
    """Keep the port while the block runs; yield the address to listen on, None without gRPC.

    The kernel shares a port among the sockets of one user that ask for it (``SO_REUSEPORT``), and
    spreads connections over those that listen, which the one here does not. Before it, one that
    does not share finds out whether another program has the port, be it another such service.

    Raises:
        OSError: if the port cannot be had; the message names the settings.
    """
    if settings.grpc_port is None:
        yield None
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((settings.host, settings.grpc_port))
                port = probe.getsockname()[1]
                probe.close()
            kept.bind((settings.host, port))
        except OSError as error:
            raise OSError(
                f"{PREFIX}HOST and {PREFIX}GRPC_PORT (--host, --grpc-port): cannot listen on "
                f"{settings.host}, port {settings.grpc_port}: {error.strerror or error}."
            ) from error
        host, port = kept.getsockname()[:2]
        yield f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
