"""The control socket, in the runtime folder: commands of the service's own user find it there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from service.processes.reloads import ReloadError, StoppingError
from service.processes.runtime_folder import runtime_folders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAME = "control.sock"
RELOAD = b"reload\n"

GREETING_SECONDS = 5.0
"""Seconds in which a service greets; it does at once unless it is stuck."""

COMMAND_SECONDS = 60.0
"""Seconds in which a client says what it wants, once it is greeted."""


@asynccontextmanager
async def control_socket(
    folder: Path, url: str, ask: Callable[[], asyncio.Future[int]]
) -> AsyncIterator[None]:
    """Take commands while the block runs.

    Args:
        folder: the runtime folder, which the user alone may enter.
        url: the service's, for its greeting.
        ask: asks for a reload.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_line({"pid": os.getpid(), "url": url}))
            async with asyncio.timeout(COMMAND_SECONDS):
                command = await reader.readline()
            if command == RELOAD:
                try:
                    writer.write(_line({"generation": await asyncio.shield(ask())}))
                except ReloadError as error:
                    writer.write(_line({"error": str(error)}))
            await writer.drain()
        except (ConnectionError, TimeoutError, ValueError):
            return  # interrupted, where a reload goes on; or silent; or no command of a line
        except StoppingError:
            return  # the end of the connection says so
        except asyncio.CancelledError:
            return  # the service ends, and Python 3.11 would log the cancellation as an error
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, folder / NAME)
    try:
        yield
    finally:
        server.close()


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


@dataclass(frozen=True)
class FoundService:
    """A service of this user, as a command finds it.

    Attributes:
        pid: of its supervisor.
        url: that it listens on.
    """

    pid: int
    url: str
    _connection: socket.socket
    _answers: IO[bytes]

    def reload(self) -> int:
        """Have it reload its models; return the number of the new generation.

        Raises:
            ReloadError: if the engines before go on serving.
            StoppingError: if the service ends meanwhile.
        """
        self._connection.settimeout(None)
        try:
            self._connection.sendall(RELOAD)
            answer = self._answers.readline()
        except ConnectionError:
            answer = b""
        if not answer:
            raise StoppingError
        outcome = json.loads(answer)
        if "error" in outcome:
            raise ReloadError(outcome["error"])
        return int(outcome["generation"])


def find_services() -> Iterator[FoundService]:
    """Yield this user's services whose runtime folders are where this process would make one."""
    for folder in runtime_folders():
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(GREETING_SECONDS)
        try:
            connection.connect(str(folder / NAME))
            answers = connection.makefile("rb")
            greeting = json.loads(answers.readline())
        except (OSError, ValueError):  # it has ended, or is ending
            connection.close()
            continue
        yield FoundService(greeting["pid"], greeting["url"], connection, answers)
