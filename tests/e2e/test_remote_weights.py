"""A service with weights of a hub, from its first start to one without a network."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch

from support.hub_server import SIGNATURE, HubServer, Repository
from support.published_weights import nano
from support.running_service import RunningService

OVERLOCK = str(Path(sys.executable).with_name("overlock"))
TOKEN = "hf_a-secret-of-the-tests"
ADDRESS = "hf://owner/birds/model.safetensors"


@pytest.fixture(scope="module")
def weights() -> bytes:
    return safetensors.torch.save(nano(3).state_dict())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"owner/birds": Repository(tokens={TOKEN})}, tokens={TOKEN}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def service(tmp_path: Path, **settings: str) -> RunningService:
    return RunningService(segment_model="off", cache_dir=str(tmp_path / "cache"), **settings)


def overlock(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OVERLOCK_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [OVERLOCK, *words], env=environment, cwd=folder, capture_output=True, text=True, timeout=100
    )


def test_a_service_stays_at_one_commit_until_a_reload_and_starts_again_without_the_hub(
    hub: HubServer, tmp_path: Path, weights: bytes
) -> None:
    birds = hub.repositories["owner/birds"]
    commit = birds.commit({"model.safetensors": weights, "config.json": b'{"crop_pct": 0.5}'})
    source = f"hf://owner/birds@{commit}/model.safetensors"
    with service(tmp_path, classify_weights=ADDRESS) as running:
        (model,) = running.get("/v1/models").json()["models"]
        assert (model["weights"], model["weights_source"]) == ("model.safetensors", source)
        assert model["weights_sha256"] == hashlib.sha256(weights).hexdigest()
        assert (model["input"]["crop_pct"], model["input_from"]["crop_pct"]) == (0.5, "checkpoint")
        assert f"classify demo: {source}, SHA-256 {model['weights_sha256']}." in running.log
        # An engine that dies comes back as it was, whatever the branch has become.
        newer = birds.commit({"model.safetensors": weights[:-4] + bytes(4)})
        (engine,) = running.children("service.engine.process")
        os.kill(engine, signal.SIGKILL)
        running.wait_for(lambda: "All processes are up again" in running.log)
        assert running.get("/v1/models").json()["models"][0]["weights_source"] == source
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(lambda: "Generation 2 serves" in running.log)
        commit, source = newer, source.replace(commit, newer)
        assert running.get("/v1/models").json()["models"][0]["weights_source"] == source
        first_log = running.log
    hub.stop()
    with service(tmp_path, classify_weights=ADDRESS) as running:
        (model,) = running.get("/v1/models").json()["models"]
        assert model["weights_source"] == source
        assert f"{ADDRESS} is taken from the cache, at commit {commit}, because" in running.log
        logs = first_log + running.log
    assert TOKEN not in logs
    assert SIGNATURE not in logs


def test_downloaded_beforehand_the_weights_need_no_network_and_are_compared(
    hub: HubServer, tmp_path: Path, weights: bytes
) -> None:
    commit = hub.repositories["owner/birds"].commit({"model.safetensors": weights})
    pinned = f"hf://owner/birds@{commit}/model.safetensors"
    done = overlock("download", pinned, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == weights
    digest = hashlib.sha256(weights).hexdigest()
    assert done.stderr == (
        f"Downloading {pinned} to the hub's cache.\n{pinned} has the SHA-256 {digest}.\n"
    )
    hub.stop()
    models = tmp_path / "models.toml"
    table = f'[birds]\narchitecture = "demo"\nweights = "{pinned}"\nsha256 = "{"0" * 64}"\n'
    models.write_text(table, encoding="utf-8")
    refused = RunningService(models_file=str(models), cache_dir=str(tmp_path / "cache"))
    try:
        assert refused.process.wait(60) == 2
        assert f"the SHA-256 of {pinned} is {digest}, but {models}, [birds] sha256" in refused.log
        assert "cannot be reached" not in refused.log
    finally:
        refused.__exit__()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "https://user:a-secret@h/m.pth?a-secret",
            "OVERLOCK_CLASSIFY_WEIGHTS: https://h/m.pth needs the file's SHA-256",
        ),
        (
            "hf://owner/birds/none.pth",
            "OVERLOCK_CLASSIFY_WEIGHTS: hf://owner/birds/none.pth is not there: owner/birds has no",
        ),
    ],
)
def test_weights_that_cannot_be_fetched_end_the_start_with_one_sentence(
    hub: HubServer, tmp_path: Path, weights: bytes, address: str, message: str
) -> None:
    hub.repositories["owner/birds"].commit({"model.safetensors": weights})
    refused = service(tmp_path, classify_weights=address)
    try:
        assert refused.process.wait(60) == 2
        assert message in refused.log
        assert "Traceback" not in refused.log
        assert "a-secret" not in refused.log
    finally:
        refused.__exit__()


def test_commands_take_addresses_and_keep_their_secrets(hub: HubServer, tmp_path: Path) -> None:
    signed = "https://user:a-secret@127.0.0.1:9/m.pth?Signature=a-secret"
    (tmp_path / "birds.png").touch()
    for words in (
        ("predict", "classify", "birds.png", "--model", "demo", "--weights", signed),
        ("download", signed),
        ("download", f"{signed}#sha256={'0' * 64}", "--from", "m.pth"),
    ):
        done = overlock(*words, folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "127.0.0.1:9/m.pth needs the file's SHA-256" in done.stderr or (
            "--from FILE is for a NAME" in done.stderr
        )
        assert "a-secret" not in done.stderr
