"""Weights of a hub, from a server on this machine."""

from __future__ import annotations

import hashlib
import logging
from contextlib import nullcontext
from pathlib import Path

import pytest
from huggingface_hub import constants

from model.pretrained.progress import ShowProgress
from model.remote.addresses import HubAddress, RemoteError, parse_address
from model.remote.cache import RemoteWeights
from model.remote.hub import _bar, fetch_from_hub
from support.hub_server import SIGNATURE, HubServer, Repository

TOKEN = "hf_a-secret-of-the-tests"
LARGE = b"weights" * 1000


def silent(_: str) -> nullcontext[ShowProgress]:
    return nullcontext(lambda done, total: None)


def fetch(text: str) -> RemoteWeights:
    address = parse_address(text)
    assert isinstance(address, HubAddress)
    return fetch_from_hub(address, silent)


@pytest.fixture
def birds(hub: HubServer) -> Repository:
    repository = hub.repositories["owner/birds.v1"] = Repository()
    return repository


def test_the_main_branch_is_pinned_to_its_commit(birds: Repository, hub_cache: Path) -> None:
    commit = birds.commit({"m.pth": LARGE})
    fetched = fetch("hf://owner/birds.v1/m.pth")
    assert fetched.source == f"hf://owner/birds.v1@{commit}/m.pth"
    assert fetched.path.read_bytes() == LARGE
    assert fetched.path.is_relative_to(hub_cache)
    assert fetched.sha256 == hashlib.sha256(LARGE).hexdigest()


def test_a_small_file_in_a_folder_of_a_branch_has_no_known_digest(birds: Repository) -> None:
    birds.commit({"m.pth": b"other"})
    commit = birds.commit({"runs/1/m.pth": b"small"}, branch="feature/one")
    fetched = fetch("hf://owner/birds.v1@feature%2Fone/runs/1/m.pth")
    assert fetched.source == f"hf://owner/birds.v1@{commit}/runs/1/m.pth"
    assert (fetched.path.read_bytes(), fetched.sha256) == (b"small", None)


def test_a_moved_branch_is_fetched_again_and_a_commit_stays(
    birds: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "model.remote")
    first = birds.commit({"m.pth": LARGE})
    for _ in range(2):
        assert fetch("hf://owner/birds.v1/m.pth").source.count(first)
    second = birds.commit({"m.pth": LARGE + b"2", "more": b""})
    assert fetch("hf://owner/birds.v1/m.pth").source.count(second)
    assert fetch(f"hf://owner/birds.v1@{first}/m.pth").path.read_bytes() == LARGE
    downloads = [line for line in caplog.messages if line.startswith("Downloading")]
    assert downloads == [
        f"Downloading hf://owner/birds.v1@{commit}/m.pth to the hub's cache."
        for commit in (first, second)
    ]


def test_a_cached_commit_asks_nobody(birds: Repository, hub: HubServer) -> None:
    commit = birds.commit({"model.safetensors": LARGE})
    address = f"hf://owner/birds.v1@{commit}/model.safetensors"
    fetched = fetch(address)
    hub.asked.clear()
    assert fetch(address) == fetched
    assert hub.asked == []


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_the_configuration_comes_with_weights_of_a_usual_name(birds: Repository, name: str) -> None:
    birds.commit({f"v2/{name}": LARGE, "v2/config.json": b"{}", "config.json": b"no"})
    path = fetch(f"hf://owner/birds.v1/v2/{name}").path
    assert path.with_name("config.json").read_bytes() == b"{}"


def test_no_configuration_comes_with_another_file(birds: Repository) -> None:
    birds.commit({"m.pth": LARGE, "config.json": b"{}"})
    assert not fetch("hf://owner/birds.v1/m.pth").path.with_name("config.json").exists()


def test_while_the_hub_is_down_the_cached_commit_is_used(
    birds: Repository, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    birds.commit({"model.safetensors": LARGE})
    fetched = fetch("hf://owner/birds.v1/model.safetensors")
    hub.stop()
    assert fetch("hf://owner/birds.v1/model.safetensors") == fetched
    (record,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    commit = fetched.source.partition("@")[2].partition("/")[0]
    assert record.getMessage() == (
        f"hf://owner/birds.v1/model.safetensors is taken from the cache, at commit {commit}, "
        f"because 127.0.0.1:{hub.port} cannot be reached (ConnectError)."
    )


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_in_trouble_is_as_one_that_is_down(
    birds: Repository, hub: HubServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    birds.commit({"m.pth": LARGE})
    fetched = fetch("hf://owner/birds.v1/m.pth")
    hub.status = status
    assert fetch("hf://owner/birds.v1/m.pth") == fetched
    assert f"127.0.0.1:{hub.port} answers with status {status}" in caplog.text
    with pytest.raises(RemoteError, match=f"and is not in the cache: .* status {status}"):
        fetch("hf://owner/birds.v1/other.pth")


def test_what_is_no_hub_is_said_to_be_none(hub: HubServer) -> None:
    hub.status = 200
    with pytest.raises(RemoteError, match="does not answer as a hub, like a proxy that wants"):
        fetch("hf://owner/birds.v1/m.pth")


def test_offline_mode_is_honoured(
    birds: Repository, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    birds.commit({"m.pth": LARGE, "other.pth": LARGE})
    fetched = fetch("hf://owner/birds.v1/m.pth")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("hf://owner/birds.v1/m.pth") == fetched
    with pytest.raises(RemoteError, match="is not in the cache: HF_HUB_OFFLINE is set"):
        fetch("hf://owner/birds.v1/other.pth")
    assert hub.asked == []


def test_an_update_that_breaks_off_leaves_the_commit_before(
    birds: Repository, hub: HubServer, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    birds.commit({"m.pth": LARGE})
    fetched = fetch("hf://owner/birds.v1/m.pth")
    birds.commit({"m.pth": LARGE * 2, "more": b""})
    hub.broken_after = 2000
    assert fetch("hf://owner/birds.v1/m.pth") == fetched
    assert [*hub_cache.rglob("*.incomplete")] == []
    hub.stop()
    assert fetch("hf://owner/birds.v1/m.pth") == fetched


def test_weights_cached_without_word_of_their_configuration_say_so(
    birds: Repository, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    commit = birds.commit({"model.safetensors": LARGE, "config.json": b"{}"})
    path = fetch("hf://owner/birds.v1/model.safetensors").path
    path.with_name("config.json").unlink()
    hub.stop()
    fetch(f"hf://owner/birds.v1@{commit}/model.safetensors")
    assert caplog.messages[-1] == "Whether a config.json belongs to it, is not known."


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_token_opens_a_private_repository_and_is_never_logged(
    birds: Repository,
    hub: HubServer,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    birds.tokens = {TOKEN}
    birds.commit({"m.pth": LARGE})
    with pytest.raises(RemoteError, match="or it is private: then give a token in HF_TOKEN"):
        fetch("hf://owner/birds.v1/m.pth")
    if where == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    else:
        Path(constants.HF_TOKEN_PATH).write_text(TOKEN, encoding="utf-8")
    assert fetch("hf://owner/birds.v1/m.pth").path.read_bytes() == LARGE
    # The signed address of the file itself is asked without the token, which the server checks.
    assert any(SIGNATURE in path for _, path, _ in hub.asked)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("address", "token", "message"),
    [
        ("hf://owner/none/m.pth", None, "has no repository owner/none, or it is private"),
        ("hf://owner/none/m.pth", TOKEN, "has no repository owner/none, or the token .* not read"),
        ("hf://owner/birds.v1/none.pth", None, "owner/birds.v1 has no file none.pth"),
        ("hf://owner/birds.v1@v9/m.pth", None, "has no revision v9"),
        (f"hf://owner/birds.v1@{'0' * 40}/m.pth", None, f"has no revision {'0' * 40}"),
        ("hf://owner/birds.v1/m.pth", "hf_wrong", "does not know the token"),
        ("hf://owner/gated/m.pth", None, "is gated: accept its conditions there, and give"),
        ("hf://owner/gated/m.pth", TOKEN, r"HF_TOKEN \(the one given may not read it\)"),
        ("hf://owner/a--b/m.pth", None, "hf://owner/a--b/m.pth: .*--"),
    ],
)
def test_a_refusal_is_one_sentence(
    birds: Repository,
    hub: HubServer,
    address: str,
    token: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    birds.commit({"m.pth": LARGE})
    hub.repositories["owner/gated"] = Repository(tokens={"hf_accepted"}, gated=True)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RemoteError, match=message) as caught:
        fetch(address)
    assert len(str(caught.value).splitlines()) == 1
    assert not token or token not in str(caught.value)


def test_a_refusal_is_not_covered_up_by_the_cache(
    birds: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    birds.commit({"m.pth": LARGE})
    fetch("hf://owner/birds.v1/m.pth")
    birds.tokens = set()
    with pytest.raises(RemoteError, match="has no repository"):
        fetch("hf://owner/birds.v1/m.pth")


@pytest.mark.parametrize(
    "error", [RuntimeError("CAS Client Error: hf_secret"), PermissionError("hf_secret")]
)
def test_a_failure_of_xets_client_is_as_a_hub_that_is_down(
    birds: Repository, hub: HubServer, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    birds.commit({"m.pth": LARGE})
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(RemoteError) as caught:
        fetch("hf://owner/birds.v1/m.pth")
    assert str(caught.value) == (
        "hf://owner/birds.v1/m.pth cannot be fetched, and is not in the cache: the download from "
        f"127.0.0.1:{hub.port} failed ({type(error).__name__})."
    )


def test_a_cache_that_cannot_be_written_is_named(birds: Repository, hub_cache: Path) -> None:
    birds.commit({"m.pth": LARGE})
    hub_cache.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(RemoteError, match=r"cannot be kept in the hub's cache.*HF_HOME"):
        fetch("hf://owner/birds.v1/m.pth")


def test_progress_is_reported_up_to_the_whole_file(birds: Repository) -> None:
    birds.commit({"m.pth": LARGE})
    seen: list[tuple[int, int | None]] = []

    def show(name: str) -> nullcontext[ShowProgress]:
        assert name == "m.pth"
        return nullcontext(lambda done, total: seen.append((done, total)))

    fetch_from_hub(HubAddress("owner/birds.v1", None, "m.pth"), show)
    assert seen[-1] == (len(LARGE), len(LARGE))


def test_of_two_bars_the_one_that_is_further_is_reported() -> None:
    seen: list[tuple[int, int | None]] = []
    bar = _bar(lambda done, total: seen.append((done, total)))
    network, disk = bar(total=100, desc="network"), bar(total=100, desc="disk", initial=0)
    network.update(60)
    disk.update(20)
    disk.update(80)
    assert seen == [(60, 100), (60, 100), (100, 100)]
