"""A release page on this machine that behaves like a good server or like bad ones."""

from __future__ import annotations

import hashlib
import re
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Asked:
    """A request, as the server got it."""

    path: str
    range: str | None
    if_range: str | None


ServerFaults = Callable[["Handler", bytes], None]
"""Answers one request for a file in place of the good server."""


@dataclass
class ReleaseServer:
    """Serves ``files``; the first requests are answered as ``script`` says, one entry for each.

    Attributes:
        files: contents by name.
        script: behaviours still to come.
        etags: whether answers have a strong ETag.
        ranges: whether a Range is heeded.
        asked: the requests so far.
        held: how many answers wait in ``hold_after``.
        release: lets them go on.
        tls: makes it a server of HTTPS.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    script: list[ServerFaults] = field(default_factory=list)
    etags: bool = True
    ranges: bool = True
    asked: list[Asked] = field(default_factory=list)
    held: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), Handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._server.release_server = self
        # Waits half a second by default for a request to end.
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Address of the files."""
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}/v1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    release_server: ReleaseServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up: they are killed, or have heard enough."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep silent."""

    def do_GET(self) -> None:
        """Serve a file, in the next scripted way or well."""
        page = self.server.release_server
        page.asked.append(Asked(self.path, self.headers["Range"], self.headers["If-Range"]))
        contents = page.files.get(self.path.partition("?")[0].rpartition("/")[2])
        if contents is None:
            self.answer(404, b"Not Found")
        elif page.script:
            page.script.pop(0)(self, contents)
        else:
            serve_well(self, contents)

    def answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        promised_bytes: int | None = None,
    ) -> None:
        """Send an answer; one that is shorter than promised ends the connection."""
        self.send_response(status)
        all_headers = {"Content-Type": "application/octet-stream"} | dict(headers or {})
        for name, value in all_headers.items():
            self.send_header(name, value)
        length = len(body) if promised_bytes is None else promised_bytes
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = length != len(body)


def etag_of(contents: bytes) -> str:
    """The good server's ETag."""
    return f'"{hashlib.sha256(contents).hexdigest()[:16]}"'


def serve_well(handler: Handler, contents: bytes, *, cut: Callable[[bytes], bytes] = bytes) -> None:
    """Heed Range and If-Range; ``cut`` may shorten what is sent, not what is promised."""
    page = handler.server.release_server
    etag = etag_of(contents)
    headers = {"ETag": etag} if page.etags else {}
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
    if not (wanted and page.ranges and handler.headers["If-Range"] in {None, etag}):
        handler.answer(200, cut(contents), headers, len(contents))
        return
    start = int(wanted[1])
    if start >= len(contents):
        handler.answer(416, b"", headers | {"Content-Range": f"bytes */{len(contents)}"})
        return
    headers["Content-Range"] = f"bytes {start}-{len(contents) - 1}/{len(contents)}"
    handler.answer(206, cut(contents[start:]), headers, len(contents) - start)


def drop_after(count: int) -> ServerFaults:
    """Send so many bytes and close the connection."""
    return lambda handler, contents: serve_well(handler, contents, cut=lambda body: body[:count])


def hold_after(count: int) -> ServerFaults:
    """Send so many bytes, wait until released, and close the connection."""

    def behave(handler: Handler, contents: bytes) -> None:
        def cut(body: bytes) -> bytes:
            return body[:count]

        serve_well(handler, contents, cut=cut)
        handler.wfile.flush()
        page = handler.server.release_server
        page.held.release()
        page.release.wait()

    return behave


def answer_with(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> ServerFaults:
    """Give this answer."""
    return lambda handler, _: handler.answer(status, body, headers)


def redirect(url: str) -> ServerFaults:
    """Send the client elsewhere."""
    return answer_with(302, headers={"Location": url})


def without_length(handler: Handler, contents: bytes) -> None:
    """Say nothing of the length; the end of the connection is the end of the file."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(contents)
