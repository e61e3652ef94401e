"""Tensors of files of ``torch.save``: equal to the bit, mapped, and checked before."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.checkpoints.stand_ins import StoredNumbers, StoredTensor
from model.checkpoints.torch_file import TorchFile, TorchFileError, read_torch_file

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e5m2,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def tensors() -> dict[str, Tensor]:
    whole = torch.arange(35.0).reshape(5, 7)
    return {
        "whole": whole,
        "view": whole[1:4, 2:5],
        "transposed": whole.T,
        "expanded": torch.ones(1).expand(3, 5),
        "parameter": nn.Parameter(torch.ones(3)),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        **{str(dtype): torch.arange(13).to(dtype) for dtype in DTYPES},
    }


def made(file: TorchFile) -> dict[str, Tensor]:
    return {name: file.tensor(stored) for name, stored in file.contents.items()}


def same(got: dict[str, Tensor], want: dict[str, Tensor]) -> bool:
    return got.keys() == want.keys() and all(
        got[name].dtype == tensor.dtype
        and got[name].shape == tensor.shape
        and got[name].tolist() == tensor.tolist()
        for name, tensor in want.items()
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_equal_in_every_form(path: Path, protocol: int, zipped: bool) -> None:
    torch.save(tensors(), path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert same(made(read_torch_file(path)), tensors())


def rewrite(path: Path, change: Callable[[str, bytes], bytes], compression: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_was_packed_again_is_read(path: Path, compression: int) -> None:
    torch.save(tensors(), path)
    rewrite(path, lambda _, data: data, compression)
    assert same(made(read_torch_file(path)), tensors())


def test_numbers_of_the_other_byte_order_are_turned(path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, -2.5])}, path)

    def turned(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big"
        return data[3::-1] + data[:3:-1] if name.endswith("data/0") else data

    rewrite(path, turned, zipfile.ZIP_STORED)
    assert made(read_torch_file(path))["a"].tolist() == [1.0, -2.5]


def test_only_the_tensors_that_are_made_are_read(path: Path) -> None:
    torch.save({"weights": torch.ones(1 << 20), "optimizer": torch.ones(1 << 20)}, path)
    file = read_torch_file(path)
    made_once = file.tensor(file.contents["weights"])
    twice = file.tensor(file.contents["weights"])
    assert made_once.untyped_storage().data_ptr() == twice.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": (9,)}, "larger than its numbers"),
        ({"offset": 3}, "larger than its numbers"),
        ({"stride": (1 << 40,)}, "larger than its numbers"),
        ({"shape": (1 << 40,), "stride": (0,)}, "larger than its numbers"),
        ({"shape": (1 << 47,) * 8, "stride": (0,) * 8}, "larger than its numbers"),
        ({"shape": (0, 1 << 47, 1 << 47), "stride": (1, 1, 1)}, "larger than its numbers"),
        ({"shape": (-1,)}, "makes no sense"),
        ({"stride": (-1,)}, "makes no sense"),
        ({"offset": -1}, "makes no sense"),
        ({"shape": ("4",)}, "makes no sense"),
        ({"shape": (2, 2)}, "makes no sense"),
        ({"shape": (1,) * 65, "stride": (1,) * 65}, "makes no sense"),
        ({"dtype": "torch.load"}, "unknown type, torch.load"),
        ({"dtype": "torch.hub.load"}, "unknown type"),
        ({"dtype": "torch.int4"}, "unknown type"),
        ({"dtype": "torch.float4_e2m1fn_x2"}, "unknown type"),
        ({"numbers": StoredNumbers("torch.QInt8Storage", "0", 0)}, "unknown type"),
        ({"numbers": StoredNumbers("torch.FloatStorage", "7", 0)}, "numbers 7 are missing"),
        ({"numbers": StoredNumbers("torch.FloatStorage", "../version", 0)}, "are missing"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_that_is_not_in_the_file_is_refused(
    path: Path, change: dict[str, Any], reason: str, zipped: bool
) -> None:
    torch.save({"a": torch.zeros(4)}, path, _use_new_zipfile_serialization=zipped)
    file = read_torch_file(path)
    stored = file.contents["a"]
    values = {"numbers": stored.numbers, "offset": 0, "shape": (4,), "stride": (1,)} | change
    with pytest.raises(TorchFileError, match=reason):
        file.tensor(StoredTensor(**values))
