"""A few numbers as a tensor."""

from __future__ import annotations

import pytest
import torch

from model.heads.device_vector import device_vector

STDS = (0.033, 0.1, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_numbers_round_as_those_of_a_tensor(dtype: torch.dtype) -> None:
    vector = device_vector(STDS, torch.device("cpu"), dtype)
    assert torch.equal(vector, torch.tensor(STDS, dtype=dtype))


def test_vector_is_on_its_device() -> None:
    assert device_vector(STDS, torch.device("meta"), torch.float32).device.type == "meta"
