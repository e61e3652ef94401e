from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from service.processes import control
from service.processes.control import NAME, control_socket, find_services
from service.processes.reloads import ReloadError, StoppingError
from service.processes.runtime_folder import MARK


def ask() -> asyncio.Future[int]:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answer.set_exception(ReloadError("there is no file"))
    return answer


def connected(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(folder / NAME))
    return connection


async def answers(folder: Path, *sent: bytes) -> list[Any]:
    reader, writer = await asyncio.open_unix_connection(folder / NAME)
    for each in sent:
        writer.write(each)
    lines = []
    try:
        while line := await reader.readline():
            lines.append(json.loads(line))
    except ConnectionResetError:
        pass  # it is closed before everything is read
    writer.close()
    return lines[1:]


@pytest.fixture
async def logged() -> list[str]:
    """What the event loop would log as an error."""
    messages: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: messages.append(context["message"])
    )
    return messages


async def test_a_failed_reload_is_answered(tmp_path: Path) -> None:
    async with control_socket(tmp_path, "http://h", ask):
        assert await answers(tmp_path, b"reload\n") == [{"error": "there is no file"}]


@pytest.mark.parametrize("sent", [b"garbage\n", b"\xff\xfe\n", b"x" * 300_000])
async def test_what_is_no_command_is_answered_by_the_end(
    tmp_path: Path, sent: bytes, logged: list[str]
) -> None:
    async with control_socket(tmp_path, "http://h", ask):
        assert await answers(tmp_path, sent) == []
    assert logged == []


async def test_a_service_that_ends_is_told_from_a_reload_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    asked: list[asyncio.Future[int]] = []

    def ask() -> asyncio.Future[int]:
        asked.append(asyncio.get_running_loop().create_future())
        asked[0].set_exception(StoppingError())
        return asked[0]

    (tmp_path / "overlock-a").mkdir()
    (tmp_path / "overlock-a" / MARK).touch()
    async with control_socket(tmp_path / "overlock-a", "http://h", ask):
        (found,) = await asyncio.to_thread(lambda: [*find_services()])
        assert (found.pid, found.url) == (os.getpid(), "http://h")
        with pytest.raises(StoppingError):
            await asyncio.to_thread(found.reload)
        found._answers.close()
        found._connection.close()


async def test_a_silent_client_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr(control, "COMMAND_SECONDS", 0.01)
    async with control_socket(tmp_path, "http://h", ask), asyncio.timeout(5):
        assert await answers(tmp_path) == []
    assert logged == []


def test_a_service_ends_without_a_word_of_clients_that_are_connected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clients: list[socket.socket] = []

    async def serve() -> None:
        async with control_socket(tmp_path, "http://h", asyncio.Future):
            clients.extend(connected(tmp_path) for _ in range(2))
            clients[1].sendall(b"reload\n")
            await asyncio.sleep(0.05)

    asyncio.run(serve())
    for client in clients:
        with client:
            assert client.recv(100).startswith(b"{")
    assert caplog.text == ""
