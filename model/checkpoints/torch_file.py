"""Read the files of ``torch.save``, in the new form and the old one, without torch's unpickler.

Nothing in a file runs, and only the tensors that are wanted are read: they are views of the file,
which is mapped into memory.

Source: torch/serialization.py, https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

import io
import math
import mmap
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from model.checkpoints.safe_pickle import PickleError, read_pickle
from model.checkpoints.stand_ins import StoredTensor

MAX_PICKLE_BYTES = 1 << 30
"""Of an archive's pickle, which names the tensors and does not hold them."""

MAX_EXPANDED_BYTES = 64 << 20
"""Of a tensor that repeats its numbers: a few bytes of a file can state a tensor of any size."""

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
ALIGNMENT_BYTES = 16
LOCAL_HEADER_BYTES = 30

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}

NEWER_DTYPES = frozenset(
    {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
    | {torch.uint16, torch.uint32, torch.uint64}
)
"""Without a storage class of their own."""


class TorchFileError(ValueError):
    """The file is damaged, or not one of ``torch.save``."""


@dataclass(frozen=True)
class TorchFile:
    """What a file holds.

    Attributes:
        contents: as ``read_pickle`` returns it.
        bytes_of: returns a storage's bytes by its key.
        big_endian: whether its numbers are stored that way.
    """

    contents: Any
    bytes_of: Callable[[str], torch.UntypedStorage]
    big_endian: bool = False

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Make a tensor, on the CPU.

        Raises:
            TorchFileError: if its numbers are not in the file, or are of an unknown type.
        """
        dtype = _dtype_of(stored)
        storage = self.bytes_of(stored.numbers.key)
        offset = stored.offset + stored.numbers.offset
        sides = (*stored.shape, *stored.stride, offset)
        plain = all(type(side) is int and 0 <= side < 1 << 48 for side in sides)
        if not plain or len(stored.shape) != len(stored.stride) or len(stored.shape) > 8:
            raise TorchFileError("the shape of a tensor makes no sense")
        size_bytes = math.prod(max(side, 1) for side in stored.shape) * dtype.itemsize
        if size_bytes > max(storage.nbytes(), MAX_EXPANDED_BYTES):
            raise TorchFileError("a tensor is larger than its numbers")
        if not math.prod(stored.shape):
            return torch.empty(stored.shape, dtype=dtype)
        last = offset + sum(
            (side - 1) * step for side, step in zip(stored.shape, stored.stride, strict=True)
        )
        if (last + 1) * dtype.itemsize > storage.nbytes():
            raise TorchFileError("a tensor is larger than its numbers")
        if self.big_endian != (sys.byteorder == "big"):
            storage = storage.clone()
            storage.byteswap(dtype)
        return torch.empty(0, dtype=dtype).set_(storage, offset, stored.shape, stored.stride)


def read_torch_file(path: Path) -> TorchFile:
    """Read a file of ``torch.save``.

    Raises:
        TorchFileError: if it is damaged or of another kind.
        OSError: if it cannot be read.
    """
    try:
        return _read_archive(path) if zipfile.is_zipfile(path) else _read_sequence(path)
    except (PickleError, zipfile.BadZipFile) as error:
        raise TorchFileError(str(error)) from error


def _dtype_of(stored: StoredTensor) -> torch.dtype:
    if stored.dtype is None:
        return _storage_dtype(stored.numbers.kind)
    dtype = getattr(torch, stored.dtype.removeprefix("torch."), None)
    if dtype not in NEWER_DTYPES and dtype not in DTYPES.values():
        raise TorchFileError(f"a tensor is of an unknown type, {stored.dtype}")
    return cast(torch.dtype, dtype)


def _storage_dtype(kind: str) -> torch.dtype:
    dtype = DTYPES.get(kind.rpartition(".")[2])
    if dtype is None:
        raise TorchFileError(f"a tensor is of an unknown type, {kind}")
    return dtype


def _read_archive(path: Path) -> TorchFile:
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise TorchFileError(f"it holds {len(pickles)} entries named data.pkl, not one")
        if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise TorchFileError(f"its pickle is larger than {MAX_PICKLE_BYTES} bytes")
        if any(info.flag_bits & 1 for info in entries.values()):
            raise TorchFileError("it is encrypted")
        contents = read_pickle(io.BytesIO(_unpacked(archive, entries[pickles[0]])))
        folder = pickles[0].removesuffix("data.pkl")
        marker = folder + "byteorder"
        order = _unpacked(archive, entries[marker]) if marker in entries else b""
    mapped = _mapped(path)

    def bytes_of(key: str) -> torch.UntypedStorage:
        info = entries.get(f"{folder}data/{key}")
        if info is None:
            raise TorchFileError(f"the numbers {key} are missing")
        if info.compress_type != zipfile.ZIP_STORED:
            with zipfile.ZipFile(path) as archive:
                data = _unpacked(archive, info)
            return torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8).untyped_storage()
        header = bytes(
            mapped[info.header_offset : info.header_offset + LOCAL_HEADER_BYTES].tolist()
        )
        lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        return _part(mapped, info.header_offset + LOCAL_HEADER_BYTES + sum(lengths), info.file_size)

    return TorchFile(contents, bytes_of, big_endian=order == b"big")


def _read_sequence(path: Path) -> TorchFile:
    """Read the form before PyTorch 1.6: pickles, then each storage behind its length."""
    kinds: dict[str, str] = {}
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        if read_pickle(file) != MAGIC_NUMBER or read_pickle(file) != PROTOCOL_VERSION:
            raise TorchFileError("it does not begin as a file of torch.save does")
        system = read_pickle(file)
        contents = read_pickle(file, kinds)
        parts = _parts(file, read_pickle(file), kinds)
    mapped = _mapped(path)

    def bytes_of(key: str) -> torch.UntypedStorage:
        if key not in parts:
            raise TorchFileError(f"the numbers {key} are missing")
        return _part(mapped, *parts[key])

    little = not isinstance(system, dict) or system.get("little_endian", True)
    return TorchFile(contents, bytes_of, big_endian=not little)


def _parts(file: mmap.mmap, keys: Any, kinds: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return where each storage begins, and its length, both in bytes."""
    parts = {}
    for key in keys if isinstance(keys, list) else ():
        count = int.from_bytes(file.read(8), "little")
        length = count * _storage_dtype(kinds.get(str(key), "")).itemsize
        if length > file.size() - file.tell():
            raise TorchFileError("it is truncated")
        parts[str(key)] = (file.tell(), length)
        file.seek(length, 1)
    return parts


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise TorchFileError(str(error)) from error


def _mapped(path: Path) -> torch.UntypedStorage:
    return torch.from_file(  # shared with nobody: a write would change memory alone
        str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8
    ).untyped_storage()


def _part(mapped: torch.UntypedStorage, begin: int, length: int) -> torch.UntypedStorage:
    part = cast(torch.UntypedStorage, mapped[begin : begin + length])
    return part if begin % ALIGNMENT_BYTES == 0 else part.clone()
