"""The examples of docs/open-inference-protocol.md, run as they stand."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client_environments import client_environment
from support.documents import ROOT, blocks
from support.running_service import RunningService, free_port

PAGE = "docs/open-inference-protocol.md"
REQUIREMENTS = Path(__file__).with_name("protocol_clients") / "requirements.txt"

pytestmark = pytest.mark.timeout(300)  # the first test makes an environment


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The service's ports, by those of the page."""
    grpc_port = free_port()
    with RunningService(grpc_port=grpc_port) as service:
        yield {"localhost:8000": service.port, "localhost:8001": grpc_port}


def example(language: str, begins: str, ports: dict[str, int]) -> str:
    """Return the page's example that has a text, for the service as it runs."""
    (block,) = [each for each in blocks(PAGE, language) if begins in each]
    for address, port in ports.items():
        block = block.replace(address, f"127.0.0.1:{port}")
    return block


def run_python(block: str) -> str:
    python = client_environment(REQUIREMENTS) / "bin" / "python"
    done = subprocess.run(
        [python, "-I", "-c", block], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_prints_what_the_page_shows(ports: dict[str, int]) -> None:
    command = example("bash", "curl", ports)
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=True)
    got, (shown,) = json.loads(done.stdout), map(json.loads, blocks(PAGE, "json"))
    for found, expected in zip(got["outputs"], shown["outputs"], strict=True):
        assert found["data"] == pytest.approx(expected["data"], abs=2e-3)
        del found["data"], expected["data"]
    assert got == shown


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_tritons_example_runs(ports: dict[str, int], transport: str) -> None:
    # As the page says, only the module's name and the port differ.
    block = example("python", "tritonclient", {})
    if transport == "grpc":
        block = block.replace("tritonclient.http", "tritonclient.grpc").replace("8000", "8001")
    for address, port in ports.items():
        block = block.replace(address, f"127.0.0.1:{port}")
    assert "star" in run_python(block)


def test_kserves_example_runs(ports: dict[str, int]) -> None:
    assert "star" in run_python(example("python", "kserve", ports))
