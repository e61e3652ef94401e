from __future__ import annotations

import io
from pathlib import Path, PurePath

import pytest

from service.commands.predict.sources import Source, SourceError, find_sources, skipped_note
from service.images.signatures import SUFFIXES

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
    return find_sources(names, NOTHING)[0]


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
    (source,), _ = find_sources(["-"], io.BytesIO(b"an image"))
    assert (source.name, source.read()) == ("stdin", b"an image")


def test_names_keep_their_order(photos: Path) -> None:
    assert [s.name for s in found("photos/b.jpg", "photos/a.PNG")] == [
        "photos/b.jpg",
        "photos/a.PNG",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("photos/*.webp", "No file matches"), ("empty", r"The folder holds no \.apng, \.avif")],
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


@pytest.mark.parametrize("suffix", [each for suffixes in SUFFIXES.values() for each in suffixes])
def test_a_folder_is_searched_for_all_that_the_service_reads(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"photo{suffix.upper()}").write_bytes(b"")
    sources, skipped = find_sources([str(tmp_path)], NOTHING)
    assert [source.place.suffix for source in sources] == [suffix.upper()]
    assert skipped_note(skipped) is None


def test_what_a_folder_holds_beside_images_is_counted_by_kind(photos: Path) -> None:
    for name in ("a.txt", "b.TXT", "README", "deep/c.svg"):
        (photos / "photos" / name).write_bytes(b"")
    (photos / "photos" / "link").symlink_to(photos / "photos" / "deep")
    _, skipped = find_sources(["photos", "photos/a.txt"], NOTHING)
    assert skipped == {
        ".txt": 3,
        "hidden": 2,
        ".svg": 1,
        "without a suffix": 1,
        "linked folders": 1,
    }
    note = skipped_note(skipped)
    assert note is not None
    assert note.startswith("Skipped in the folders: 3 .txt, 2 hidden, 1 ")


def test_many_kinds_are_counted_together(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"file.{number}").write_bytes(b"")
    _, skipped = find_sources([str(tmp_path)], NOTHING)
    note = skipped_note(skipped)
    assert note is not None
    assert ", 4 others. " in note
