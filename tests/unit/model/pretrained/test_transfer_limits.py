"""A download is bounded by the limit of its size, and by the disk."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from model.pretrained import transfer
from model.pretrained.partial_file import PartialDownload
from model.pretrained.transfer import TransferError
from support.release_server import ReleaseServer, without_length
from support.transfers import CONTENTS, FILE, Fetch


@pytest.fixture
def page() -> Iterator[ReleaseServer]:
    with ReleaseServer({FILE: CONTENTS}) as page:
        yield page


@pytest.fixture
def part(tmp_path: Path) -> PartialDownload:
    return PartialDownload(tmp_path / f"{FILE}.part")


@pytest.fixture
def fetch(page: ReleaseServer, part: PartialDownload) -> Fetch:
    return Fetch(page, part)


def test_a_file_that_says_it_is_too_long_is_not_begun(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGEST_BYTES", len(CONTENTS) - 1)
    with pytest.raises(TransferError, match=r"longer than 0\.3 MB"):
        fetch()
    assert part.done_bytes == 0


def test_a_file_that_turns_out_too_long_is_given_up(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGEST_BYTES", 200_000)
    page.script = [without_length]
    with pytest.raises(TransferError, match=r"longer than 0\.2 MB"):
        fetch()
    assert part.done_bytes <= 200_000


def test_too_little_room_is_said_before_anything_comes(
    part: PartialDownload, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**5))
    with pytest.raises(TransferError, match=r"has room for 0\.1 MB, but 0\.3 MB are missing"):
        fetch()
    assert part.done_bytes == 0


def test_a_disk_that_fills_up_keeps_what_came(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert part.path.read_bytes() == CONTENTS[:100_000]
    assert fetch() == CONTENTS
    assert page.asked[-1].range == "bytes=100000-"


def test_a_damaged_note_of_the_version_means_another_start(
    page: ReleaseServer, part: PartialDownload, fetch: Fetch
) -> None:
    part.path.write_bytes(b"left by nobody knows whom")
    part.path.with_name(part.path.name + ".json").write_text("{")
    assert fetch() == CONTENTS
    assert page.asked[0].range is None
