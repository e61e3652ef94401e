from __future__ import annotations

import io
from pathlib import Path, PurePath

import pytest

from service.commands.predict.sources import Source, SourceError, find_sources

NOTHING = io.BytesIO()


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/er/c.tif", ".git/d.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def found(*names: str) -> list[Source]:
    return find_sources(names, NOTHING)


def test_a_folder_is_searched_recursively_in_order(photos: Path) -> None:
    sources = found("photos")
    assert [s.name for s in sources] == ["photos/a.PNG", "photos/b.jpg", "photos/deep/er/c.tif"]
    assert [s.place for s in sources] == [
        PurePath("a.PNG"),
        PurePath("b.jpg"),
        PurePath("deep/er/c.tif"),
    ]


def test_a_file_that_is_named_may_be_called_anything(photos: Path) -> None:
    (source,) = found("photos/notes.txt")
    assert source.read() == b"notes.txt"


def test_a_pattern_finds_files_of_any_name(photos: Path) -> None:
    assert [s.name for s in found("photos/**/[bc]*")] == ["photos/b.jpg", "photos/deep/er/c.tif"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(photos: Path) -> None:
    (photos / "[b].jpg").write_bytes(b"really")
    (source,) = found("[b].jpg")
    assert source.read() == b"really"


def test_the_standard_input_is_an_image() -> None:
    (source,) = find_sources(["-"], io.BytesIO(b"an image"))
    assert (source.name, source.read()) == ("stdin", b"an image")


def test_names_keep_their_order(photos: Path) -> None:
    assert [s.name for s in found("photos/b.jpg", "photos/a.PNG")] == [
        "photos/b.jpg",
        "photos/a.PNG",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("photos/*.webp", "No file matches"), ("empty", r"The folder holds no \.bmp, \.gif")],
)
def test_where_nothing_is_found_there_is_an_error_for_its_turn(
    photos: Path, name: str, reason: str
) -> None:
    (photos / "empty").mkdir()
    first, second = found(name, "photos/b.jpg")
    with pytest.raises(SourceError, match=reason):
        first.read()
    assert second.read() == b"b.jpg"


def test_a_missing_file_is_an_error_for_its_turn(photos: Path) -> None:
    (source,) = found("photos/nowhere.jpg")
    with pytest.raises(FileNotFoundError):
        source.read()
