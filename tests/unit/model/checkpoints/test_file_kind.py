from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.file_kind import weights_file_in, weights_file_problem

STATE = {"weight": torch.zeros(3)}


@pytest.mark.parametrize("zipped", [True, False])
def test_what_pytorch_saves_may_hold_weights(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    assert weights_file_problem(path) is None


def test_what_safetensors_saves_may_hold_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(STATE, path)
    assert weights_file_problem(path) is None


def test_a_header_whose_length_looks_like_a_web_page_is_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    header = b"{}".ljust(int.from_bytes(b" <\0", "little"))
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert weights_file_problem(path) is None


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("w.pth", b"", "is empty"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        ("w.pth", b"\n<!DOCTYPE html><html></html>", "is a web page"),
        ("w.pth", b"some notes\n", "is no PyTorch checkpoint"),
        ("w.pth", b"\2\0\0\0\0\0\0\0{}", "is a safetensors file by its contents"),
        ("w.pth", b"\x80\xff\x00", "is no PyTorch checkpoint"),
        ("w.pth", b"\x80", "is no PyTorch checkpoint"),
        ("w.pth", b"PK\x03\x04 and no more", "is truncated or damaged"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("w.safetensors", b"x", "is no intact safetensors file"),
        ("w.safetensors", b"\x40\0\0\0\0\0\0\0{}", "is no intact safetensors file"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, name: str, contents: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(contents)
    problem = weights_file_problem(path)
    assert problem is not None
    assert says in problem
    assert str(path) in problem


def test_an_archive_of_other_things_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"")
    assert "zip archive of other things" in (weights_file_problem(path) or "")


def test_a_folder_with_one_weights_file_is_that_file(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    for name in ("config.json", "README.md", ".hidden.pth", "optimizer.pt", "training_args.bin"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "runs.pth").mkdir()
    assert weights_file_in(tmp_path) == tmp_path / "model.safetensors"
    assert weights_file_problem(tmp_path) is None


def test_a_folder_with_two_weights_files_is_refused_with_their_names(tmp_path: Path) -> None:
    for name in ("last.pth", "best.pth"):
        torch.save(STATE, tmp_path / name)
    assert weights_file_in(tmp_path) == tmp_path
    problem = weights_file_problem(tmp_path) or ""
    assert "is a folder with 2 weights files: best.pth, last.pth; give the path of one" in problem


def test_the_one_weights_file_of_a_folder_is_examined(tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    assert f"{tmp_path / 'model.pth'} is empty" in (weights_file_problem(tmp_path) or "")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert "There is no weights file" in (weights_file_problem(tmp_path / "none") or "")
    assert "is a folder" in (weights_file_problem(tmp_path) or "")
    assert "is not a file" in (weights_file_problem(Path("/dev/null")) or "")
    (tmp_path / "file").touch()
    assert "cannot be read" in (weights_file_problem(tmp_path / "file" / "w.pth") or "")
