from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.processes.grpc_port import reserved_grpc_port
from service.settings import Settings


@contextmanager
def listener(address: tuple[str, int], *, shares: bool) -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        opened.bind(address)
        opened.listen()
        yield opened


def refuses(settings: Settings, match: str) -> None:
    with pytest.raises(OSError, match=match), reserved_grpc_port(settings):
        pytest.fail("another program has the port")


def split(address: str | None) -> tuple[str, int]:
    assert address is not None
    host, _, port = address.rpartition(":")
    return host, int(port)


def test_there_is_no_address_without_grpc() -> None:
    with reserved_grpc_port(Settings()) as address:
        assert address is None


def test_the_kept_port_is_free_for_those_who_share_it_and_for_no_other() -> None:
    with reserved_grpc_port(Settings(grpc_port=0)) as address:
        host, port = split(address)
        for _ in range(2):
            with (
                listener((host, port), shares=True) as worker,
                socket.create_connection((host, port)),
            ):
                worker.accept()[0].close()
        with pytest.raises(OSError, match="in use"), listener((host, port), shares=False):
            pytest.fail("it does not share the port")
        refuses(Settings(grpc_port=port), "GRPC_PORT")


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_is_taken_is_refused_and_the_settings_are_named(shares: bool) -> None:
    with listener(("127.0.0.1", 0), shares=shares) as other:
        port = other.getsockname()[1]
        refuses(Settings(grpc_port=port), f"OVERLOCK_HOST and OVERLOCK_GRPC_PORT.*port {port}: ")


def test_an_address_of_ipv6_has_brackets() -> None:
    with reserved_grpc_port(Settings(host="::1", grpc_port=0)) as address:
        assert split(address)[0] == "[::1]"
