"""The application over HTTP in the event loop of a test, with engines that the test controls."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn

from service.settings import Settings
from service.web.http.connections import Connection
from service.web.http.open_connections import OpenConnections
from service.web.process import Server
from support.service_fakes import FakeEngines, fake_app


@asynccontextmanager
async def served(engines: FakeEngines, settings: Settings) -> AsyncIterator[str]:
    """Serve the application and give its address."""
    app = fake_app(settings, engines)
    protocol: Any = partial(Connection, open_connections=OpenConnections(100))
    server = Server(
        uvicorn.Config(app, http=protocol, log_config=None, timeout_graceful_shutdown=0)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipeline = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await pipeline
