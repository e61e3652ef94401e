"""The settings for a service behind a proxy, on the real service."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which

import httpx
import pytest

from support.api_requests import JPEG, photo
from support.documents import blocks
from support.raw_http import send
from support.running_service import CLIENT, RunningService, free_port

DELAY_SECONDS = 3


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    settings: dict[str, str | int] = {
        "host": "::",
        "root_path": "/overlock",
        "keep_alive_seconds": "1.5",
        "drain_delay_seconds": DELAY_SECONDS,
        "log_format": "json",
        "segment_model": "off",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1,10.0.0.0/8")
        with RunningService(**settings) as service:
            yield service


def logged(service: RunningService, request_id: str) -> dict[str, str]:
    def lines() -> list[str]:
        return [line for line in service.log.splitlines() if request_id in line]

    service.wait_for(lambda: bool(lines()))
    line: dict[str, str] = json.loads(lines()[0])
    return line


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_both_families_are_served(service: RunningService, host: str) -> None:
    answer = CLIENT.get(f"http://{host}:{service.port}/v1/models")
    assert answer.status_code == 200
    line = logged(service, answer.headers["x-request-id"])
    assert line["client"] == host.strip("[]")


def test_a_trusted_proxy_names_the_client(service: RunningService) -> None:
    for forwarded, client in (
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("x=1 status=200", "unknown"),
    ):
        headers = {"X-Forwarded-For": forwarded}
        answer = CLIENT.get(f"{service.url}/v1/models", headers=headers)
        assert logged(service, answer.headers["x-request-id"])["client"] == client
    headers = {"X-Forwarded-For": "203.0.113.9"}
    answer = CLIENT.get(f"http://[::1]:{service.port}/v1/models", headers=headers)
    assert logged(service, answer.headers["x-request-id"])["client"] == "::1"


def test_a_refusal_of_the_connection_names_its_other_end(service: RunningService) -> None:
    refused = send(service, b"GET /livez HTTP/1.1\r\n\r\n")
    line = logged(service, refused.problem["request_id"])
    assert line["client"] == "127.0.0.1"


def test_an_idle_connection_stays_open_as_long_as_it_should(service: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        since = time.monotonic()
        while connection.recv(65536):
            pass
        assert 1.0 < time.monotonic() - since < 10.0


@pytest.mark.parametrize("number", range(2))
def test_the_nginx_of_the_documents_passes_everything_on(
    service: RunningService, tmp_path: Path, number: int
) -> None:
    nginx = which("nginx")
    if nginx is None:
        pytest.skip("nginx is missing; apt-get install nginx-light")
    port, block = free_port(), blocks("docs/behind-a-proxy.md", "nginx")[number]
    block = re.sub(r"listen \d+;", f"listen 127.0.0.1:{port};", block)
    block = block.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
    config = tmp_path / "nginx.conf"
    folders = "".join(
        f"{kind}_temp_path {tmp_path};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"user root;\npid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{block}\n}}\n"
    )
    command = [nginx, "-e", "stderr", "-c", str(config), "-g", "daemon off;"]
    process = subprocess.Popen(command)
    try:
        address = f"http://127.0.0.1:{port}/overlock"
        service.wait_for(lambda: listens(port))
        answer = CLIENT.post(f"{address}/v1/classify", content=photo(), headers=JPEG)
        assert answer.status_code == 200
        assert logged(service, answer.headers["x-request-id"])["client"] == "127.0.0.1"
        assert CLIENT.get(f"{address}/docs").status_code == 200
        large = photo() + bytes(8_000_000)
        answer = CLIENT.post(f"{address}/v1/classify", content=large, headers=JPEG)
        assert answer.status_code == 200
        answer = CLIENT.post(f"{address}/v1/classify", content=bytes(30_000_000), headers=JPEG)
        assert answer.json()["type"] == "urn:overlock:problem:body-too-large"
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_sigterm_makes_unready_first_and_refuses_later(service: RunningService) -> None:
    """The module's last test: the service is gone after it."""
    with ThreadPoolExecutor(1) as client:
        os.kill(service.process.pid, signal.SIGTERM)
        began = time.monotonic()
        service.wait_for(lambda: service.get("/readyz").status_code == 503)
        assert time.monotonic() - began < DELAY_SECONDS
        waiting = client.submit(
            CLIENT.post, f"{service.url}/v1/classify", content=photo(), headers=JPEG
        )
        assert waiting.result().status_code == 200
        assert time.monotonic() - began < DELAY_SECONDS
        seen = []
        while service.process.poll() is None:
            try:
                seen.append(service.get("/livez").status_code)
                seen.append(service.get("/metrics").status_code)
            except httpx.TransportError:
                break
            time.sleep(0.1)
        assert time.monotonic() - began > DELAY_SECONDS - 0.5
        assert set(seen) == {200}
        assert service.process.wait(30) == 0
