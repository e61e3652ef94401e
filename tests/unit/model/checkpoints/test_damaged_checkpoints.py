"""Files that are not checkpoints are refused with a reason, and run no code."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model.heads.classifier import ImageClassifier
from model.images.input_config import InputOptions
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


@pytest.mark.parametrize("form", ["zip", "deflated", "legacy", "safetensors"])
def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, form: str) -> None:
    entries = {"head.4.weight": torch.randn(5, 3), "head.4.bias": torch.zeros(5)}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(entries, path)
    else:
        torch.save(entries, path, _use_new_zipfile_serialization=form != "legacy")
    if form == "deflated":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    contents = path.read_bytes()
    for position in range(0, len(contents), max(1, len(contents) // 400)):
        changed = bytearray(contents)
        changed[position] ^= 0xD5
        path.write_bytes(changed)
        with contextlib.suppress(CheckpointError):
            read_checkpoint(path)


class Shell:
    """Pickles as a call of a shell command, as malicious weights do."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_code_beside_the_weights_does_not_run(tmp_path: Path, path: Path, form: str) -> None:
    proof = tmp_path / "it ran"
    contents = {"state_dict": {"head.4.bias": torch.ones(2)}, "hook": Shell(f"touch '{proof}'")}
    torch.save(contents, path, _use_new_zipfile_serialization=form == "zip")
    assert read_checkpoint(path).state["head.classify.bias"].tolist() == [1, 1]
    assert not proof.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_code_in_place_of_a_weight_is_refused_by_name(
    tmp_path: Path, path: Path, form: str
) -> None:
    proof = tmp_path / "it ran"
    state = {"head.4.bias": torch.ones(2), "head.4.weight": Shell(f"touch '{proof}'")}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match=r"head\.4\.weight \(posix\.system\)"):
        read_checkpoint(path)
    assert not proof.exists()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_code_in_a_trainings_options_does_not_run(
    tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    proof = tmp_path / "it ran"
    args = argparse.Namespace(img_size=Shell(f"touch '{proof}'"), crop_pct=0.9)
    contents = {"state_dict": {"head.4.bias": torch.ones(2)}, "args": args}
    torch.save(contents, path, _use_new_zipfile_serialization=form == "zip")
    assert read_checkpoint(path).input == InputOptions(crop_pct=0.9)
    assert not proof.exists()
    (line,) = caplog.messages
    assert "states img_size = 'posix.system', which is ignored" in line


def test_a_bare_pickle_is_no_checkpoint(tmp_path: Path, path: Path) -> None:
    proof = tmp_path / "it ran"
    path.write_bytes(pickle.dumps(Shell(f"touch '{proof}'"), protocol=2))
    with pytest.raises(CheckpointError, match=r"does not begin as a file of torch\.save does"):
        read_checkpoint(path)
    assert not proof.exists()


@pytest.mark.parametrize("inside", [False, True])
def test_pickled_network_is_refused_with_its_class_and_the_line_that_saves_it(
    path: Path, network: ImageClassifier, inside: bool
) -> None:
    torch.save({"model": network} if inside else network, path)
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(path)
    message = str(refusal.value)
    assert "model.heads.classifier.ImageClassifier" in message
    assert ("at ['model']" in message) is inside
    assert "torch.save(model.state_dict(), 'weights.pth')" in message
    assert "weights_only" not in message


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused_as_such(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointError, match=r"is a TorchScript archive.*torch\.save\("):
        read_checkpoint(path)


def test_a_folded_networks_state_is_refused_as_such(path: Path) -> None:
    torch.save(create_model("demo", weights="random").state_dict(), path)
    with pytest.raises(CheckpointError, match=r"state of a folded network.*fused=False"):
        create_model("demo", weights=path)


def test_another_network_is_refused_by_ten_of_its_names(path: Path) -> None:
    torch.save({f"layer{number}.conv.weight": torch.zeros(1) for number in range(13)}, path)
    with pytest.raises(CheckpointError) as refusal:
        read_checkpoint(path)
    message = str(refusal.value)
    assert "has no patch_embed1.0.weight, the first entry of OverLoCK" in message
    assert message.count("layer") == 10
    assert "and 3 more" in message


@pytest.mark.parametrize(
    "contents",
    [[torch.zeros(1)], torch.zeros(1), None, {}, {"state_dict": {}}, {"model": {"model": {}}}],
    ids=["list", "tensor", "nothing", "empty", "empty inside", "empty twice inside"],
)
def test_contents_that_are_no_mapping_to_tensors_are_refused(path: Path, contents: Any) -> None:
    torch.save(contents, path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint(path)


@pytest.mark.parametrize("stray", [None, 3, [1, 2], "text", {"a": 1}])
def test_entries_that_are_no_tensors_are_refused_where_weights_should_be(
    path: Path, stray: Any
) -> None:
    torch.save({"head.4.bias": torch.zeros(2), "head.4.weight": stray}, path)
    with pytest.raises(
        CheckpointError, match=r"no tensors where weights should be: head\.4\.weight"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize("beside", [{"epoch": 3}, {"model": [1, 2]}, {0: None}, {("a", 1): None}])
def test_plain_values_beside_flat_weights_are_skipped(path: Path, beside: dict[Any, Any]) -> None:
    torch.save({"head.4.bias": torch.zeros(2)} | beside, path)
    assert [*read_checkpoint(path).state] == ["head.classify.bias"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"nowhere{suffix}"
    with pytest.raises(CheckpointError, match=f"There is no weights file {path}"):
        create_model("demo", weights=path)


def test_folder_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)
