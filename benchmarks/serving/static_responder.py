"""A server that answers every request at once with fixed bytes, to check the load generator."""

from __future__ import annotations

import argparse
import asyncio
from typing import cast

import httptools
import uvloop

BODY = b'{"model":"none","predictions":[{"class_id":0,"label":"none","score":1.0}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY
)


class Responder(asyncio.Protocol):
    """A connection that reads requests and answers without looking at them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports do not inherit from asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse the data."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        self._transport.write(ANSWER)


async def respond(port: int) -> None:
    """Answer until cancelled."""
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Run the responder on a port."""
    parser = argparse.ArgumentParser(description="Answers everything at once.")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(respond(parser.parse_args().port))


if __name__ == "__main__":
    main()
