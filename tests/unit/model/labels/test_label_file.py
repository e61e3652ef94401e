from __future__ import annotations

from pathlib import Path

import pytest

from model.labels.label_file import read_labels


def test_a_line_is_a_name_and_the_end_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffblå\nred fox\n\n".encode())
    assert read_labels(path) == ("blå", "red fox")


@pytest.mark.parametrize("contents", [None, b"\xff\xfe\x00"])
def test_what_cannot_be_read_is_named(tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "labels.txt"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"labels\.txt cannot be read"):
        read_labels(path)
