"""A real nginx in front of a service."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from support.running_service import CLIENT, RunningService, free_port

NGINX = "/usr/sbin/nginx"

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream service {{
        server 127.0.0.1:{upstream};
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_request_buffering {buffering};
            proxy_next_upstream off;
        }}
    }}
}}
"""


class RunningNginx:
    """nginx, answering when entered, stopped when left.

    Args:
        service: what it stands in front of.
        folder: for its files.
        buffering: whether it takes all of a body before it sends any of it.
    """

    def __init__(self, service: RunningService, folder: Path, *, buffering: bool) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "error.log"
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                upstream=service.port,
                port=self.port,
                buffering="on" if buffering else "off",
            )
        )
        self._process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(configuration), "-e", str(self._log)]
        )

    def __enter__(self) -> Self:
        until = time.monotonic() + 20
        while True:
            try:
                CLIENT.get(f"{self.url}/livez")
                return self
            except httpx.TransportError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < until, self.log
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def log(self) -> str:
        """What nginx complained of so far."""
        return self._log.read_text()
