"""A store of objects on this machine: Google's JSON API, or nothing but refusals for both kinds."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class ObjectStore:
    """Serves objects as Google Cloud Storage does.

    Attributes:
        objects: versions of an object by "bucket/key", the current one last, each with its number.
        status: answers every request with this one, if it is set.
        code: the name of the error that goes with it.
        asked: paths of the requests so far.
    """

    objects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: int | None = None
    code: str = ""
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more connections; may be called twice."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    store: ObjectStore

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have heard enough."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Keep silent."""

    def do_HEAD(self) -> None:
        self._send(self.server.store.status or 404)

    def do_GET(self) -> None:
        store, parts = self.server.store, urlsplit(self.path)
        store.asked.append(self.path)
        if store.status is not None:
            return self._refuse(store.status, store.code)
        _, _, rest = parts.path.partition("/storage/v1/b/")
        bucket, _, key = (unquote(part) for part in rest.partition("/o"))
        versions = store.objects.get(f"{bucket}{key}", {})
        if not key.strip("/"):
            return self._send(200, json.dumps({"kind": "storage#objects"}).encode())
        query = parse_qs(parts.query)
        generation = query.get("generation", [[*versions][-1] if versions else ""])[0]
        contents = versions.get(generation)
        if contents is None:
            return self._refuse(404, "notFound")
        md5 = base64.b64encode(hashlib.md5(contents).digest()).decode()
        if "alt" in query:
            return self._send(200, contents, {"X-Goog-Hash": f"md5={md5}"})
        facts = {
            "kind": "storage#object",
            "name": key.strip("/"),
            "bucket": bucket,
            "generation": generation,
            "size": str(len(contents)),
            "md5Hash": md5,
            "timeCreated": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z",
        }
        return self._send(200, json.dumps(facts).encode())

    def _refuse(self, status: int, code: str) -> None:
        if "list-type" in self.path or "/storage/" not in self.path:
            text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
            self._send(status, text.encode(), {"Content-Type": "application/xml"})
        else:
            self._send(status, json.dumps({"error": {"code": status, "message": code}}).encode())

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
