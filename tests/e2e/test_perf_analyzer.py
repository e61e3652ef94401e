"""Triton's load generator, perf_analyzer, against the real service."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import platform
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model.scenes.scenes import draw_scene
from support.client_environments import client_environment
from support.running_service import RunningService, free_port
from support.scene_files import png

REQUIREMENTS = Path(__file__).with_name("protocol_clients") / "perf_analyzer.txt"
IMAGE = png(draw_scene(630_000, 120, 160).image)
REQUESTS = 10

Analyze = Callable[..., str]


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Where the service is, by protocol."""
    port = free_port()
    with RunningService(grpc_port=port) as service:
        yield {"http": service.url.removeprefix("http://"), "grpc": f"127.0.0.1:{port}"}


@pytest.fixture(scope="module")
def analyze(tmp_path_factory: pytest.TempPathFactory, addresses: dict[str, str]) -> Analyze:
    """The program: takes a protocol, bytes of an image and further options; returns its report."""
    if platform.machine() != "x86_64":
        pytest.skip(f"perf_analyzer has no wheel for {platform.machine()}")
    try:
        ctypes.CDLL("libb64.so.0d")
    except OSError:
        pytest.skip("perf_analyzer needs Debian's package libb64-0d: apt-get install libb64-0d")
    environment = client_environment(REQUIREMENTS)
    (library,) = environment.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")
    folder = tmp_path_factory.mktemp("perf_analyzer")

    def run(protocol: str, content: bytes, *options: str) -> str:
        encoded = {"content": {"b64": base64.b64encode(content).decode()}, "shape": [1]}
        file = folder / "input.json"
        file.write_text(json.dumps({"data": [{"image": encoded}]}))
        command = [str(environment / "bin/perf_analyzer"), "-m", "demo", "-i", protocol]
        command += ["-u", addresses[protocol], "--input-data", str(file)]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [*command, "--request-count", str(REQUESTS), *options],
            env=os.environ | {"LD_LIBRARY_PATH": str(library)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_fills_its_block_about_the_server(analyze: Analyze, protocol: str) -> None:
    report = analyze(protocol, struct.pack("<I", len(IMAGE)) + IMAGE, "-b", "1")
    client, _, server = report.partition("  Server: \n")
    assert f"Request count: {REQUESTS}\n" in client, report
    assert "infer/sec" in client
    # It asks for every output: each call is a classification and an embedding.
    assert f"Inference count: {2 * REQUESTS}\n" in server, report
    assert f"Successful request count: {REQUESTS}\n" in server
    times = re.search(
        r"Avg request latency: (\d+) usec \(overhead (\d+) usec \+ queue (\d+) usec \+ compute "
        r"input (\d+) usec \+ compute infer (\d+) usec \+ compute output (\d+) usec\)",
        server,
    )
    assert times is not None, report
    latency, _, _, _, inference, _ = map(int, times.groups())
    assert 0 < inference <= latency


def test_it_is_told_of_the_length_that_its_users_forget(analyze: Analyze) -> None:
    report = analyze("http", IMAGE)
    assert "Each element of a binary BYTES tensor has its length before it, in 4 bytes" in report
