"""numpy objects in a checkpoint: their numbers are read, and nothing of numpy runs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.checkpoints.checkpoint import CheckpointError, read_checkpoint
from model.checkpoints.inert_arrays import InertArray, InertDtype
from model.checkpoints.torch_file import read_torch_file

PALETTE = np.array([[1, 2, 3], [40, 50, 60]], np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


def load(path: Path) -> Any:
    return read_torch_file(path).contents


def rewrite_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes in the pickle of a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            assert not name.endswith("data.pkl") or old in data
            archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("dtype", ["u1", "i4", ">i4", "i8", "u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_integers_keeps_its_numbers(path: Path, dtype: str, order: Any) -> None:
    torch.save({"a": np.array(PALETTE.tolist(), dtype=dtype, order=order)}, path)
    assert load(path)["a"].integers() == PALETTE.tolist()


def test_files_of_numpy_1_are_read_too(path: Path) -> None:
    torch.save({"a": PALETTE, "score": np.float64(0.5)}, path)
    rewrite_pickle(path, b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert load(path)["a"].integers() == PALETTE.tolist()


@pytest.mark.parametrize(
    "values", [np.array([0.5]), np.array(["text"]), np.zeros(200_000, np.uint8)]
)
def test_other_arrays_have_no_integers(path: Path, values: Any) -> None:
    torch.save({"a": values}, path)
    with pytest.raises(ValueError, match=r"no array of integers|no small array"):
        load(path)["a"].integers()


def test_an_array_whose_bytes_are_said_to_be_objects_is_never_made(path: Path) -> None:
    # With numpy's own types, this state makes it follow the bytes as pointers.
    kind = InertDtype("f8", False, True)
    kind.__setstate__((3, "|", (np.dtype("O"), (1,)), None, None, 8, 8, 0))
    array = InertArray()
    array.__setstate__((1, (1,), kind, False, b"A" * 8))
    with pytest.raises(ValueError, match="no array of integers"):
        array.integers()


@pytest.mark.parametrize(
    "state",
    [
        None,
        (1, (2,), InertDtype("u1"), False, b"A"),
        (1, (-1,), InertDtype("u1"), False, b"A"),
        (1, ("1",), InertDtype("u1"), False, b"A"),
        (1, (1,), "u1", False, b"A"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(state: Any) -> None:
    array = InertArray()
    array.__setstate__(state)
    with pytest.raises(ValueError, match="array"):
        array.integers()


def test_a_numpy_array_is_no_weight(path: Path) -> None:
    torch.save({"head.classify.weight": PALETTE}, path)
    with pytest.raises(
        CheckpointError, match=r"no tensors where weights should be: head\.classify\.weight"
    ):
        read_checkpoint(path)
