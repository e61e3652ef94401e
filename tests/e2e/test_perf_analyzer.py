"""Triton's load generator, perf_analyzer, as docs/open-inference-protocol.md calls it."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.client_environments import client_environment
from support.documents import ROOT, blocks
from support.running_service import RunningService, free_port

PAGE = "docs/open-inference-protocol.md"
REQUIREMENTS = Path(__file__).with_name("protocol_clients") / "perf_analyzer.txt"
REQUESTS = 20

pytestmark = pytest.mark.timeout(300)  # the first test makes an environment


@dataclass(frozen=True)
class Analyzer:
    """The program, in a folder with the page's ``images.json``.

    Attributes:
        environment: that it lies in.
        folder: for its files.
        addresses: of the service, by those of the page.
    """

    environment: Path
    folder: Path
    addresses: dict[str, str]

    def run(self, protocol: str) -> str:
        """Run the page's command for a protocol and return its report."""
        (commands,) = [each for each in blocks(PAGE, "bash") if each.startswith("perf_analyzer")]
        (command,) = [each for each in commands.splitlines() if f"-i {protocol} " in each]
        for address, real in self.addresses.items():
            command = command.replace(address, real)
        (library,) = self.environment.glob("lib/python3*/site-packages/nvidia/cuda_runtime/lib")
        done = subprocess.run(
            [str(self.environment / "bin/perf_analyzer"), *shlex.split(command)[1:]],
            env=os.environ | {"LD_LIBRARY_PATH": str(library)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        return f"{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analyzer]:
    if platform.machine() != "x86_64":
        pytest.skip(f"perf_analyzer has no wheel for {platform.machine()}")
    try:
        ctypes.CDLL("libb64.so.0d")
    except OSError:
        pytest.skip("perf_analyzer needs Debian's package libb64-0d: apt-get install libb64-0d")
    environment, folder = client_environment(REQUIREMENTS), tmp_path_factory.mktemp("analyzer")
    (folder / "docs").symlink_to(ROOT / "docs")
    (script,) = [each for each in blocks(PAGE, "python") if "images.json" in each]
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    port = free_port()
    with RunningService(grpc_port=port) as service:
        addresses = {"localhost:8000": service.url.removeprefix("http://")}
        yield Analyzer(environment, folder, addresses | {"localhost:8001": f"127.0.0.1:{port}"})


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_fills_its_block_about_the_server(analyzer: Analyzer, protocol: str) -> None:
    report = analyzer.run(protocol)
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


def test_it_is_told_of_the_length_that_its_users_forget(analyzer: Analyzer) -> None:
    file = analyzer.folder / "images.json"
    right = file.read_text()
    step = json.loads(right)
    content = step["data"][0]["image"]["content"]
    content["b64"] = base64.b64encode(base64.b64decode(content["b64"])[4:]).decode()
    file.write_text(json.dumps(step))
    try:
        report = analyzer.run("http")
    finally:
        file.write_text(right)
    assert "Each element of a binary BYTES tensor has its length before it, in 4 bytes" in report
