"""The client works where nothing but httpx and pydantic is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ALLOWED = (
    *("httpx", "anyio", "certifi", "h11", "httpcore", "idna"),
    *("pydantic", "annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"),
    *("service", "service.api", "service.client"),
)
"""Packages that may be imported, beside the standard library."""

ANSWER = {
    "model": "demo",
    "predictions": [{"class_id": 3, "label": "star", "score": 0.9}],
    "image": {"width": 4, "height": 3, "frames": 1},
    "timing": {
        "decode_seconds": 0.1,
        "queue_seconds": 0.1,
        "inference_seconds": 0.1,
        "render_seconds": 0.1,
        "batch_size": 1,
    },
}

SCRIPT = f"""
import asyncio, sys
from importlib.abc import MetaPathFinder

class Refuser(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        depth = 2 if name.startswith("service.") else 1
        package = ".".join(name.split(".")[:depth])
        if package in {ALLOWED} or package in sys.stdlib_module_names:
            return None
        if package.startswith("_sysconfigdata_"):  # the standard library's
            return None
        raise ModuleNotFoundError(f"{{name}} is neither httpx nor pydantic")

sys.meta_path.insert(0, Refuser())
"""

ASK = """
from service.client import AsyncClient, Client

async def ask(url):
    async with AsyncClient(url) as client:
        return await client.classify(b"an image", top_k=1)

url = sys.argv[1]
with Client(url) as client:
    found = client.classify(b"an image", top_k=1)
assert found == asyncio.run(ask(url))
print(found.predictions[0].label)
"""


class Classifier(BaseHTTPRequestHandler):
    """Answers every request with the same classes."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Classifier) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(script: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + script, *words],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_both_clients_work_with_httpx_and_pydantic_alone(url: str, tmp_path: Path) -> None:
    done = run(ASK, url, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "star\n", "")


@pytest.mark.parametrize("name", ["numpy", "pydantic_settings", "model.config", "service.settings"])
def test_everything_else_is_out_of_reach(name: str, tmp_path: Path) -> None:
    done = run(f"import {name}", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("is neither httpx nor pydantic\n")
