from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.labels.label_file import read_labels


def test_a_line_is_a_name_and_the_end_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffblå\nred fox\n\n".encode())
    assert read_labels(path) == ("blå", "red fox")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.txt")
    with pytest.raises(ValueError, match=r"labels\.txt cannot be read: it is not a file\."):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize("contents", [None, b"\xff\xfe\x00"])
def test_what_cannot_be_read_is_named(tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "labels.txt"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"labels\.txt cannot be read"):
        read_labels(path)
