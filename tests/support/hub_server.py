"""A hub on this machine: what ``huggingface_hub`` asks of a model repository, and its refusals.

Large files are redirected to another host under a signed URL, as the Hugging Face Hub does.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 1000
"""Files from this size on are redirected."""

SIGNATURE = "Signature=signed-for-this-download"


@dataclass
class Repository:
    """A model repository.

    Attributes:
        commits: files by commit.
        refs: commits by branch and tag.
        tokens: that may read it; None for everybody.
        gated: whether its conditions have to be accepted first.
    """

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tokens: set[str] | None = None
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch; return its name."""
        contents = repr((len(self.commits), sorted(files)))
        name = hashlib.sha1(contents.encode()).hexdigest()
        self.commits[name] = files
        self.refs[branch] = name
        return name


@dataclass
class HubServer:
    """Serves repositories.

    Attributes:
        repositories: by owner and name.
        tokens: all that it knows.
        status: answers every request with this one, if it is set.
        broken_after: bytes after which a download breaks off, if it is set.
        asked: method, path and token of the requests so far.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    status: int | None = None
    broken_after: int | None = None
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more connections; may be called twice."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The value of HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ") or None
        hub.asked.append((self.command, self.path, token))
        words = [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]
        if hub.status is not None:
            return self._send(hub.status)
        if words[0] == "cdn":
            return self._send_signed(words[1], token)
        if token is not None and token not in hub.tokens:
            message = "Invalid credentials in Authorization header"
            return self._send(401, headers={"X-Error-Message": message})
        name, repository = "/".join(words[:2]), hub.repositories.get("/".join(words[:2]))
        if repository is None or not (repository.tokens is None or token in repository.tokens):
            code = "GatedRepo" if repository and repository.gated else "RepoNotFound"
            return self._send(403 if code == "GatedRepo" and token else 401, code)
        assert words[2] == "resolve", f"{name} is asked for {self.path}"
        commit = repository.refs.get(words[3], words[3])
        if commit not in repository.commits:
            return self._send(404, "RevisionNotFound")
        contents = repository.commits[commit].get("/".join(words[4:]))
        if contents is None:
            return self._send(404, "EntryNotFound", headers={"X-Repo-Commit": commit})
        return self._send_file(contents, commit)

    def _send_file(self, contents: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit}
        if len(contents) < LARGE_BYTES:
            headers["ETag"] = f'"{hashlib.sha1(contents).hexdigest()}"'
            return self._send(200, headers=headers, body=contents)
        digest = hashlib.sha256(contents).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(contents))}
        # Another host than the hub's, which gets no token.
        headers["Location"] = f"http://localhost:{self.server.hub.port}/cdn/{digest}?{SIGNATURE}"
        return self._send(302, headers=headers)

    def _send_signed(self, digest: str, token: str | None) -> None:
        assert token is None, "the token left the hub"
        assert urlsplit(self.path).query == SIGNATURE
        for repository in self.server.hub.repositories.values():
            for files in repository.commits.values():
                for contents in files.values():
                    if hashlib.sha256(contents).hexdigest() == digest:
                        return self._send(200, body=contents)
        return self._send(404)

    def _send(
        self,
        status: int,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(body)))
        # Once it is stopped, no client has a connection left.
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: self.server.hub.broken_after])
