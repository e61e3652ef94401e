"""Recognise a weights file by its first bytes, without torch, which takes seconds to import."""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path

HEAD_BYTES = 512
MAX_LISTED = 10

_ZIP, _PICKLE, _TAR = b"PK\x03\x04", b"\x80", slice(257, 262)
"""PyTorch's formats: an archive since 1.6, a bare pickle before, at first a tar file."""

_PROTOCOLS = range(2, 6)
_LFS_POINTER = b"version https://git-lfs"
_WEB_PAGE = re.compile(rb"\s*<[!?a-zA-Z]")
"""More than its first character, which can also be in the length that begins a safetensors file."""

SUFFIXES = {".pth", ".pt", ".ckpt", ".bin", ".safetensors"}
OF_TRAINING = ("optimizer", "scheduler", "scaler", "rng_state", "training_args", "random_states")
"""Names of files that trainers keep beside the weights, under the same suffixes."""


def weights_file_in(path: Path) -> Path:
    """Return the one weights file in a folder, also one as hubs lay it out; else the path itself.

    Raises:
        OSError: if a folder cannot be read.
    """
    found = _weights_files(path) if path.is_dir() else []
    return found[0] if len(found) == 1 else path


def _weights_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES
        and not path.name.startswith((".", *OF_TRAINING))
        and path.is_file()
    )


def weights_file_problem(path: Path) -> str | None:
    """Return a sentence that says why a file cannot hold weights; None if it may.

    Args:
        path: of a file, or a folder with one, as
            ``model.checkpoints.checkpoint.read_checkpoint`` takes it.
    """
    try:
        path = weights_file_in(path)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            names = [file.name for file in _weights_files(path)]
            shown = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
            held = f"{len(names)} weights files: {shown}" if names else "no weights file"
            return f"{path} is a folder with {held}; give the path of one."
        if not stat.S_ISREG(status.st_mode):
            return f"{path} is not a file."
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        return _problem_of(path, head, status.st_size)
    except FileNotFoundError:
        return f"There is no weights file {path}."
    except OSError as error:
        return f"The weights file {path} cannot be read: {error.strerror}."


def _problem_of(path: Path, head: bytes, size_bytes: int) -> str | None:
    if not head:
        return f"{path} is empty."
    if head.startswith(_LFS_POINTER):
        return f"{path} is a Git LFS pointer, not the weights; git lfs pull fetches them."
    if _WEB_PAGE.match(head):
        return f"{path} is a web page, not a weights file; download the file itself."
    if path.suffix == ".safetensors":
        return _safetensors_problem(path, head, size_bytes)
    if head.startswith(_ZIP):
        return _archive_problem(path)
    is_pickle = head.startswith(_PICKLE) and head[1:2] and head[1] in _PROTOCOLS
    if is_pickle:
        return None
    if head[_TAR] == b"ustar":
        return (
            f"{path} is a tar archive, as PyTorch wrote before 2017; load it there and save it "
            "again: torch.save(model.state_dict(), 'weights.pth')."
        )
    if _safetensors_problem(path, head, size_bytes) is None:
        return f"{path} is a safetensors file by its contents; its name has to end so, too."
    return f"{path} is no PyTorch checkpoint."


def _safetensors_problem(path: Path, head: bytes, size_bytes: int) -> str | None:
    """Check the length of the header, and that it begins as JSON.

    Source: the format's description, https://github.com/huggingface/safetensors.
    """
    length_bytes = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or length_bytes > size_bytes - 8:
        return f"{path} is no intact safetensors file."
    return None


def _archive_problem(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        return f"{path} is truncated or damaged: {error}."
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        return (
            f"{path} is a TorchScript archive, a program and not weights; save those of the "
            "network it was made from: torch.save(model.state_dict(), 'weights.pth')."
        )
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return f"{path} is a zip archive of other things than a PyTorch checkpoint."
    return None
