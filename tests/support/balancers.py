"""A real nginx and a real haproxy in front of several services, whose number changes."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from support.documents import blocks
from support.running_service import CLIENT, free_port

NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream overlock {{
        {servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://overlock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }}
    }}
}}
"""

SLOTS = 4


class Balancer(ABC):
    """A proxy, answering when entered, stopped when left. It never tries a request again.

    Args:
        folder: for its files.
        ports: of the services.

    Attributes:
        url: where it listens.
        asks_for_health: whether it finds out by itself which services are ready.
    """

    program: str
    asks_for_health: bool

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            self._command(ports), stdout=self._log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> Self:
        until = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < until, (self._folder / "log").read_text()
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    @abstractmethod
    def use(self, ports: Sequence[int]) -> None:
        """Send new requests to these services alone."""

    @abstractmethod
    def _command(self, ports: Sequence[int]) -> list[str]: ...

    def _answers(self) -> bool:
        try:
            return CLIENT.get(f"{self.url}/livez").status_code == 200
        except httpx.TransportError:
            return False


class RunningNginx(Balancer):
    """nginx, which knows of its services what its configuration says."""

    program = "/usr/sbin/nginx"
    asks_for_health = False

    def use(self, ports: Sequence[int]) -> None:
        """Write and load another configuration, as an ingress controller does."""
        self._write(ports)
        subprocess.run([*self._start(), "-s", "reload"], check=True)

    def _command(self, ports: Sequence[int]) -> list[str]:
        self._write(ports)
        return self._start()

    def _start(self) -> list[str]:
        configuration = self._folder / "nginx.conf"
        return [self.program, "-p", str(self._folder), "-c", str(configuration), "-e", "stderr"]

    def _write(self, ports: Sequence[int]) -> None:
        servers = " ".join(f"server 127.0.0.1:{port};" for port in ports)
        text = NGINX.format(folder=self._folder, servers=servers, port=self.port)
        (self._folder / "nginx.conf").write_text(text)


class RunningHaproxy(Balancer):
    """haproxy with the documents' configuration, which asks its services for health."""

    program = "/usr/sbin/haproxy"
    asks_for_health = True

    def use(self, ports: Sequence[int]) -> None:
        """Tell the running haproxy, as its ingress controller does."""
        for slot in range(1, 1 + SLOTS):
            server = f"set server overlock/slot{slot}"
            if slot > len(ports):
                self._tell(f"{server} state maint")
            else:
                self._tell(f"{server} addr 127.0.0.1 port {ports[slot - 1]}")
                self._tell(f"{server} state ready")

    def _command(self, ports: Sequence[int]) -> list[str]:
        (text,) = blocks("docs/behind-a-proxy.md", "haproxy")
        assert len(ports) == len(re.findall(r"^ *server ", text, re.MULTILINE)) == 2
        text = text.replace("bind :80", f"bind 127.0.0.1:{self.port}")
        text = re.sub(r"\binter 5s", "inter 200ms", text)
        text = re.sub(r"^ *server .*\n", "", text, flags=re.MULTILINE)
        first = "".join(
            f"    server slot{slot} 127.0.0.1:{port}\n" for slot, port in enumerate(ports, 1)
        )
        rest = "".join(
            f"    server slot{slot} 127.0.0.1:1 disabled\n"
            for slot in range(1 + len(ports), 1 + SLOTS)
        )
        socket_line = f"global\n    stats socket {self._socket} level admin\n"
        configuration = self._folder / "haproxy.cfg"
        configuration.write_text(f"{socket_line}{text}    retries 0\n{first}{rest}")
        return [self.program, "-db", "-f", str(configuration)]

    @property
    def _socket(self) -> Path:
        return self._folder / "admin"

    def _tell(self, order: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._socket))
            admin.sendall(order.encode() + b"\n")
            admin.shutdown(socket.SHUT_WR)
            answer = admin.makefile("rb").read().decode().strip()
        assert answer == "" or "no need to change" in answer or "changed from" in answer, answer
