"""One fetch for all kinds of addresses, and a version that processes agree on."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.remote.addresses import RemoteError
from model.remote.cache import RemoteWeights
from model.remote.fetch import fetch, remote_folder
from support.hub_server import HubServer, Repository

ADDRESS = "hf://owner/birds/m.pth"


@pytest.fixture
def birds(hub: HubServer) -> Repository:
    repository = hub.repositories["owner/birds"] = Repository()
    return repository


def test_without_pins_the_current_version_is_taken(birds: Repository, folder: Path) -> None:
    first = birds.commit({"m.pth": b"1"})
    assert first in fetch(ADDRESS, folder).source
    second = birds.commit({"m.pth": b"2", "more": b""})
    assert second in fetch(ADDRESS, folder).source


def test_processes_with_the_same_pins_take_the_same_version(
    birds: Repository, hub: HubServer, folder: Path, tmp_path: Path
) -> None:
    first = birds.commit({"m.pth": b"1", "n.pth": b"1"})
    pins = tmp_path / "weights.json"
    with ThreadPoolExecutor(4) as threads:
        sources = {each.source for each in threads.map(lambda _: at_pins(folder, pins), range(4))}
    assert sources == {f"hf://owner/birds@{first}/m.pth"}
    birds.commit({"m.pth": b"2", "more": b""})
    hub.asked.clear()
    assert fetch(ADDRESS, folder, pins=pins).path.read_bytes() == b"1"
    assert hub.asked == []
    # Another file, and another service, look for themselves.
    fetch("hf://owner/birds@" + first + "/n.pth", folder, pins=pins)
    assert json.loads(pins.read_text("utf-8")) == {ADDRESS: f"hf://owner/birds@{first}/m.pth"}
    assert fetch(ADDRESS, folder, pins=tmp_path / "other.json").path.read_bytes() == b"2"


def at_pins(folder: Path, pins: Path) -> RemoteWeights:
    return fetch(ADDRESS, folder, pins=pins)


def test_what_cannot_be_fetched_is_not_pinned(
    birds: Repository, folder: Path, tmp_path: Path
) -> None:
    pins = tmp_path / "weights.json"
    with pytest.raises(RemoteError):
        fetch(ADDRESS, folder, pins=pins)
    commit = birds.commit({"m.pth": b"1"})
    assert commit in fetch(ADDRESS, folder, pins=pins).source


def test_files_of_buckets_have_a_folder_of_their_own(tmp_path: Path) -> None:
    assert remote_folder(tmp_path) == tmp_path / "remote"
