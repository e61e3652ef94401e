from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pytest

from service.settings import SettingsError
from service.web.http.api_keys import ApiKeys


def line(name: str, key: str) -> str:
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# who may ask\n\n" + line("gateway", "first") + line("batch", "second"))
    return path


def test_a_key_is_known_by_its_digest(path: Path) -> None:
    names = [ApiKeys(path).name_of(key) for key in ("first", "second", "third", "")]
    assert names == ["gateway", "batch", None, None]


def test_the_file_is_read_again_when_it_changes(path: Path) -> None:
    keys = ApiKeys(path)
    path.write_text(line("gateway", "another"))
    assert keys.name_of("first") is None
    assert keys.name_of("another") == "gateway"


def test_a_file_that_is_replaced_is_read_even_with_the_same_size_and_time(path: Path) -> None:
    keys, before = ApiKeys(path), path.stat()
    fresh = path.with_name("fresh")
    fresh.write_text(path.read_text().replace(line("batch", "second"), line("batch", "2nd")))
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.rename(path)
    assert keys.name_of("2nd") == "batch"


def test_a_folder_that_is_swapped_behind_a_link_is_read_as_kubernetes_updates_secrets(
    tmp_path: Path,
) -> None:
    for version, name in enumerate(("old", "new")):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "keys").write_text(line("gateway", name))
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = ApiKeys(tmp_path / "keys")
    assert keys.name_of("old") == "gateway"

    (tmp_path / "..data_tmp").symlink_to("..1")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert keys.name_of("new") == "gateway"
    assert keys.name_of("old") is None


@pytest.mark.parametrize("broken", ["gateway not-a-digest\n", None])
def test_a_change_that_cannot_be_read_leaves_the_keys_as_they_were(
    path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    with caplog.at_level(logging.ERROR):
        assert [keys.name_of("first") for _ in range(3)] == ["gateway"] * 3
    (record,) = caplog.records  # once, not for every request
    assert "stay as they were" in record.getMessage()


@pytest.mark.parametrize("content", ["", "\n", "# gateway, until May\n"])
def test_the_last_key_can_be_withdrawn(
    path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(path)
    path.write_text(content)
    assert keys.name_of("first") is None
    assert "every request that needs one is refused" in caplog.text
    path.write_text(line("gateway", "third"))
    assert keys.name_of("third") == "gateway"


def test_a_service_may_start_before_there_is_a_key(path: Path) -> None:
    path.write_text("")
    assert ApiKeys(path).name_of("") is None


@pytest.mark.parametrize("content", ["secret-key-itself\n", "name secret\n"])
def test_a_line_that_is_no_key_stops_the_start_and_is_not_quoted(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(SettingsError, match="OVERLOCK_API_KEYS_FILE") as raised:
        ApiKeys(path)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys(tmp_path / "none")
