"""Files that are not checkpoints are refused with a reason, and run no code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model.heads.classifier import ImageClassifier
from model.zoo import create_model


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"not weights\n",
        b"<!DOCTYPE html><html>Not Found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        b"\xff\xd8\xff\xe0" + bytes(range(256)),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=["empty", "text", "web page", "lfs pointer", "picture", "zip"],
)
def test_file_that_is_no_checkpoint_is_refused(
    tmp_path: Path, contents: bytes, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match=str(path)):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_file_truncated_anywhere_is_refused(tmp_path: Path, form: str) -> None:
    entries = {"head.4.weight": torch.randn(5, 3), "head.4.bias": torch.zeros(5)}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(entries, path)
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=form == "zip")
    contents = path.read_bytes()
    for length in range(0, len(contents), max(1, len(contents) // 200)):
        path.write_bytes(contents[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


class Shell:
    """Pickles as a call of a shell command, as malicious weights do."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_file_that_runs_code_is_refused_unrun(tmp_path: Path, path: Path, form: str) -> None:
    proof = tmp_path / "it ran"
    contents = {"state_dict": {"head.4.bias": torch.zeros(2)}, "hook": Shell(f"touch '{proof}'")}
    if form == "pickle":
        path.write_bytes(pickle.dumps(contents["hook"], protocol=2))
    else:
        torch.save(contents, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="would run code of its own"):
        read_checkpoint(path)
    assert not proof.exists()


def test_pickled_network_is_refused(path: Path, network: ImageClassifier) -> None:
    torch.save(network, path)
    with pytest.raises(CheckpointError, match="would run code of its own"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "contents",
    [[torch.zeros(1)], torch.zeros(1), None, {}, {"state_dict": {}}, {"model": {"model": {}}}],
    ids=["list", "tensor", "nothing", "empty", "empty inside", "empty twice inside"],
)
def test_contents_that_are_no_mapping_to_tensors_are_refused(path: Path, contents: Any) -> None:
    torch.save(contents, path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "stray",
    [{"epoch": 3}, {"model": [1, 2]}, {0: torch.zeros(1)}, {("a", 1): torch.zeros(1)}],
    ids=["number", "list", "number as name", "tuple as name"],
)
def test_entries_that_are_no_named_tensors_are_listed(path: Path, stray: dict[Any, Any]) -> None:
    torch.save({"head.4.bias": torch.zeros(2)} | stray, path)
    with pytest.raises(CheckpointError, match=r"no named tensors: [(]?'?(epoch|model|0|a)"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"nowhere{suffix}"
    with pytest.raises(CheckpointError, match=f"There is no weights file {path}"):
        create_model("demo", weights=path)


def test_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)
