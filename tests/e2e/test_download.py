"""``overlock download`` and a service with pretrained weights, as a user starts them."""

from __future__ import annotations

import hashlib
import io
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from model.config import CLASSIFIERS
from model.heads.classifier import ImageClassifier
from support.fill import image
from support.filled import filled
from support.release_server import ReleaseServer, answer_with, drop_after, hold_after
from support.running_service import CLIENT, RunningService
from support.scene_files import png

OVERLOCK = str(Path(sys.executable).with_name("overlock"))
INJECTION = Path(__file__).parents[1] / "release_injection"
FILE = "nano.pth"


@pytest.fixture(scope="module")
def published() -> bytes:
    buffer = io.BytesIO()
    network = filled(ImageClassifier(CLASSIFIERS["demo"].backbone, 1000), torch.float32)
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def page(published: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    with ReleaseServer({FILE: published}) as page:
        monkeypatch.setenv("TEST_RELEASE_URL", page.url)
        monkeypatch.setenv("PYTHONPATH", str(INJECTION), prepend=os.pathsep)
        yield page


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVERLOCK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def overlock(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [OVERLOCK, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


def test_download_says_where_the_weights_are_and_leaves_a_pipe_clean(
    page: ReleaseServer, cache: Path, tmp_path: Path, published: bytes
) -> None:
    page.script = [drop_after(1_000_000)]
    done = overlock("download", "demo", folder=tmp_path)
    kept = cache / "weights" / "demo.safetensors"
    assert (done.returncode, done.stdout) == (0, f"{kept}\n")
    first, second, third = done.stderr.splitlines()
    assert first == f"Downloading {page.url}/{FILE} to {kept.parent}."
    want = "127.0.0.1: the connection broke off (1.0 MB so far); trying again in "
    assert second.startswith(want)
    assert third.startswith(f"{FILE} fits demo and is kept as {kept} (")
    assert hashlib.sha256(published).hexdigest() in third
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    again = overlock("download", "demo", folder=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{kept}\n", "")
    # What is measured is found in the same place.
    words = ("--model", "demo", "--weights", "pretrained", "--data", "nowhere")
    measured = overlock("evaluate", "classify", *words, folder=tmp_path)
    assert measured.stderr == "overlock evaluate: There is no folder nowhere.\n"


def test_download_draws_a_bar_on_a_terminal(
    page: ReleaseServer, cache: Path, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        [OVERLOCK, "download", "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            text += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    assert f"{FILE}: 100%".encode() in text


def test_control_c_keeps_what_came(page: ReleaseServer, cache: Path, tmp_path: Path) -> None:
    page.script = [hold_after(2_000_000)]
    process = subprocess.Popen(
        [OVERLOCK, "download", "demo"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert page.held.acquire(timeout=60)
    part = cache / "weights" / f"{FILE}.part"
    while not (part.exists() and part.stat().st_size):  # some of it is still on its way
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "Stopped. The same command resumes the download."
    assert part.stat().st_size


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["overlock_q"],
            2,
            "NAME: There is no model 'overlock_q'. There are pretrained weights for",
        ),
        (["cascade_mask_rcnn_overlock_t"], 2, "NAME: The authors published no weights of cascade"),
        (["demo", "overlock_t", "--from", "x.pth"], 2, "--from FILE is for one NAME."),
        (["demo", "--from", "x.pth"], 2, "x.pth does not hold the published weights of demo"),
        (["demo"], 2, "could not be downloaded from"),
    ],
)
def test_a_refusal_is_one_line(
    page: ReleaseServer, cache: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    page.script = [answer_with(404)]
    done = overlock("download", *words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("overlock download: ")
    assert message in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("names", "code"), [(("demo", "overlock_t"), 1), (("overlock_t",) * 2, 2)])
def test_the_exit_code_tells_whether_any_of_several_came(
    page: ReleaseServer, cache: Path, tmp_path: Path, names: tuple[str, ...], code: int
) -> None:
    done = overlock("download", *names, folder=tmp_path)
    assert done.returncode == code
    assert len(done.stdout.splitlines()) == names.count("demo")
    assert "overlock download: overlock_t's weights could not be downloaded" in done.stderr


def test_the_service_downloads_what_is_missing_and_is_ready_afterwards(
    page: ReleaseServer, cache: Path, published: bytes
) -> None:
    page.script = [hold_after(2_000_000)]
    service = RunningService(
        classify_weights="pretrained", segment_model="off", cache_dir=str(cache)
    )
    try:
        assert page.held.acquire(timeout=60)
        service.wait_for(lambda: answer(service, "/livez") == 200)
        assert answer(service, "/readyz") == 503
        page.release.set()
        service.wait_ready()
        (model,) = service.get("/v1/models").json()["models"]
        assert (model["weights"], model["demo"]) == (FILE, False)
        assert model["weights_sha256"] == hashlib.sha256(published).hexdigest()
        body = png(image("pretrained", 64, 64))
        classified = CLIENT.post(
            f"{service.url}/v1/classify", content=body, headers={"Content-Type": "image/png"}
        )
        assert len(classified.json()["predictions"]) == 5
        assert "X-Model-Weights" not in classified.headers
        assert f"engine-0   Downloading {page.url}/{FILE} to {cache}/weights." in service.log
        assert f"engine-0   {FILE} fits demo and is kept as" in service.log
        assert "\r" not in service.log
    finally:
        service.__exit__()
    page.files.clear()  # the next start needs nobody
    with RunningService(
        classify_weights="pretrained", segment_model="off", cache_dir=str(cache)
    ) as service:
        assert "Downloading" not in service.log


def test_a_service_that_cannot_have_its_weights_says_so_and_ends(
    page: ReleaseServer, cache: Path
) -> None:
    page.files.clear()
    service = RunningService(
        classify_weights="pretrained", segment_model="off", cache_dir=str(cache)
    )
    try:
        assert service.process.wait(60) == 2
        assert "OVERLOCK_CLASSIFY_WEIGHTS: demo's weights could not be downloaded" in service.log
        assert "404 Not Found" in service.log
        assert "Traceback" not in service.log
    finally:
        service.__exit__()


def answer(service: RunningService, path: str) -> int:
    try:
        return service.get(path).status_code
    except httpx.TransportError:
        return 0
