"""docs/migrating.md: the clients' lines for this service find the star, and so does the network."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.client_environments import CLIENT_SECONDS, client_environment
from support.documents import ROOT, blocks
from support.running_service import CLIENT, RunningService, free_port

PAGE = "docs/migrating.md"
REQUIREMENTS = Path(__file__).parent / "protocol_clients" / "requirements.txt"
STAR = ROOT / "docs" / "images" / "star.png"

PYTHON = blocks(PAGE, "python")
IN_PYTHON = [block for block in PYTHON if block.startswith("# here\n")]
BY_TRITONCLIENT = [block for block in PYTHON if block.startswith("# here, by tritonclient\n")]
BY_CURL = [
    command
    for block in blocks(PAGE, "bash")
    for command in re.findall(r"^# here\n(curl .*)$", block, re.MULTILINE)
]


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def controlled(grpc_port: int) -> Iterator[RunningService]:
    with RunningService(grpc_port=grpc_port, model_control="on") as service:
        yield service


def test_every_server_has_lines_for_this_one() -> None:
    assert (len(IN_PYTHON), len(BY_TRITONCLIENT), len(BY_CURL)) == (3, 3, 2)


@pytest.mark.parametrize("block", IN_PYTHON, ids=["TorchServe", "LitServe", "BentoML"])
def test_the_lines_of_a_python_client_find_the_star(
    block: str,
    demo: RunningService,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    lines = re.sub(r"localhost:\d+", f"127.0.0.1:{demo.port}", block)
    exec(compile(lines, PAGE, "exec"), {})  # our own document
    assert capsys.readouterr().out == "star\n"


@pytest.mark.parametrize("block", BY_TRITONCLIENT, ids=["files", "pixels", "gRPC and control"])
def test_tritonclients_lines_find_the_star(
    block: str, controlled: RunningService, grpc_port: int
) -> None:
    lines = block.replace("localhost:8000", f"127.0.0.1:{controlled.port}").replace(
        "localhost:8001", f"127.0.0.1:{grpc_port}"
    )
    python = client_environment(REQUIREMENTS) / "bin" / "python"
    done = subprocess.run(
        [str(python), "-I", "-c", lines],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "star"


@pytest.mark.parametrize("command", BY_CURL, ids=["TorchServe", "BentoML"])
def test_curls_lines_find_the_star(command: str, demo: RunningService) -> None:
    words = shlex.split(re.sub(r"localhost:\d+", f"127.0.0.1:{demo.port}", command))
    done = subprocess.run([*words, "-s"], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] == "star"


def test_the_network_without_the_service_gives_the_services_scores(demo: RunningService) -> None:
    (block,) = [block for block in PYTHON if "class Classifier:" in block]
    names: dict[str, Any] = {}
    exec(compile(block, PAGE, "exec"), names)  # our own document
    star = STAR.read_bytes()
    found = names["Classifier"]("demo", "demo").classify([star, star])
    served = CLIENT.post(f"{demo.url}/v1/classify", content=star).json()["predictions"]
    expected = {each["label"]: pytest.approx(each["score"], abs=1e-6) for each in served}
    assert found == [expected, expected]
    assert [list(each) for each in found] == [list(expected)] * 2


def test_what_the_page_says_of_statuses_holds(demo: RunningService) -> None:
    infer = f"{demo.url}/v2/models/demo/infer"
    floats = {"name": "image", "datatype": "FP32", "shape": [1], "data": [0.5]}
    assert CLIENT.post(infer, json={"inputs": [floats]}).status_code == 400
    assert CLIENT.get(f"{demo.url}/v2/models/demo/versions/1").status_code == 404
    assert CLIENT.get(f"{demo.url}/v2/models/nobody/ready").status_code == 404
    form = {"data": ("star.png", STAR.read_bytes())}
    assert CLIENT.post(f"{demo.url}/v1/classify", files=form).status_code == 200
    assert CLIENT.post(f"{demo.url}/v1/classify", content=b"no image").status_code == 422
    put = CLIENT.put(f"{demo.url}/v1/classify", content=STAR.read_bytes())
    assert put.status_code == 405
