"""Our kernels' activations are PyTorch's, within the bounds that their texts state."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

triton = pytest.importorskip("triton", reason="Triton is not installed: there are no kernels")
tl = triton.language
activations: Any = importlib.import_module("model.kernels.gpu.activations")

COUNT = 65536


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _activate(values, result, short: tl.constexpr, count: tl.constexpr):  # type: ignore
    place = tl.arange(0, count)
    loaded = tl.load(values + place)
    activated = activations.short_gelu(loaded) if short else activations.gelu(loaded)
    tl.store(result + place, activated)


def activated(values: Tensor, *, short: bool) -> Tensor:
    result = torch.empty_like(values)
    _activate[(1,)](values, result, short, values.numel())
    return result.cpu()


@pytest.mark.parametrize(("short", "bound"), [(False, 1e-6), (True, 2.3e-6)])
def test_gelu_is_within_its_bound(kernel_device: str, short: bool, bound: float) -> None:
    values = torch.linspace(-8, 8, COUNT, device=kernel_device)
    error = activated(values, short=short).double() - F.gelu(values.cpu().double())
    assert error.abs().max() <= bound


@pytest.mark.parametrize("short", [False, True])
def test_what_is_not_finite_stays_so(kernel_device: str, short: bool) -> None:
    values = torch.tensor([float("nan"), float("inf")], device=kernel_device)
    nan, infinite = activated(values, short=short)
    assert nan.isnan()
    assert infinite == float("inf")
