"""The Triton kernel of label maps picks the classes that resizing all logits in float64 picks."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.heads import label_map as dispatch
from support.filled import random_map

SIZES = {
    # classes, cells, network's input, image
    "a photograph": (5, (6, 9), (24, 36), (45, 67)),
    "several columns of programs": (3, (4, 20), (16, 80), (17, 300)),
    "the network's own size": (4, (8, 8), (32, 32), (32, 32)),
    "twice as small": (4, (8, 12), (32, 48), (16, 24)),
    "five times as small": (4, (16, 12), (64, 48), (13, 10)),
    "eight times as small": (4, (32, 8), (128, 32), (15, 4)),
    "one pixel": (7, (8, 8), (32, 32), (1, 1)),
    "one cell": (2, (1, 1), (4, 4), (33, 9)),
    "one class": (1, (3, 5), (12, 20), (7, 11)),
    "256 classes": (256, (3, 3), (12, 12), (9, 5)),
    "a strip": (3, (8, 40), (32, 160), (2, 640)),
    "cells of one pixel": (5, (9, 7), (9, 7), (20, 5)),
    "cells of odd sizes": (5, (9, 7), (13, 8), (31, 29)),
}


@pytest.fixture
def kernel(kernel_device: str) -> Any:
    return importlib.import_module("model.kernels.gpu.label_map")


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_label_is_the_best_class(kernel: Any, kernel_device: str, name: str) -> None:
    classes, cells, network_size, size = SIZES[name]
    logits = random_map(classes, *cells, dtype=torch.float32)
    labels = kernel.label_map_triton(logits.to(kernel_device), *network_size, *size)
    assert (labels.shape, labels.dtype) == (size, torch.uint8)
    _assert_best(labels.cpu(), logits, network_size, size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["a photograph", "twice as small"])
def test_short_logits_are_resized_in_float32(
    kernel: Any, kernel_device: str, name: str, dtype: torch.dtype
) -> None:
    classes, cells, network_size, size = SIZES[name]
    logits = random_map(classes, *cells, dtype=torch.float32).to(dtype)
    labels = kernel.label_map_triton(logits.to(kernel_device), *network_size, *size)
    _assert_best(labels.cpu(), logits, network_size, size)


def test_logits_may_have_any_strides(kernel: Any, kernel_device: str) -> None:
    logits = random_map(1, 5, 6, 9, dtype=torch.float32).to(kernel_device)
    channels_last = logits.to(memory_format=torch.channels_last)
    labels = kernel.label_map_triton(channels_last[0], 24, 36, 45, 67)
    assert torch.equal(labels, kernel.label_map_triton(logits[0], 24, 36, 45, 67))


def test_of_equal_classes_the_lower_is_taken(kernel: Any, kernel_device: str) -> None:
    logits = random_map(1, 6, 9, dtype=torch.float32).repeat(4, 1, 1)
    logits[0] -= 1
    labels = kernel.label_map_triton(logits.to(kernel_device), 24, 36, 45, 67)
    assert (labels == 1).all()


@pytest.mark.parametrize("name", SIZES)
def test_rows_of_a_program_lie_within_its_rows_of_cells(kernel: Any, name: str) -> None:
    _, (cell_rows, _), (network_rows, _), (rows, _) = SIZES[name]
    weights = _resized_twice(torch.eye(cell_rows, dtype=torch.float64), network_rows, rows)
    together = kernel._rows_of_program(cell_rows, network_rows, rows)
    for first_row in range(0, rows, together):
        used = weights[first_row : first_row + together].any(dim=0).nonzero().flatten()
        assert used[-1] - used[0] < kernel.CELL_ROWS


def test_enlarged_images_share_cells_among_eight_rows(kernel: Any) -> None:
    assert kernel._rows_of_program(128, 512, 512) == 8
    assert kernel._rows_of_program(128, 512, 4000) == 8
    assert kernel._rows_of_program(128, 512, 300) == 4


@pytest.mark.slow
def test_dispatch_takes_the_kernel_and_the_plain_paths_classes_stay(
    kernel: Any, monkeypatch: pytest.MonkeyPatch, kernel_device: str
) -> None:
    logits = random_map(11, 8, 10, dtype=torch.float32)
    plain = dispatch.label_map(logits, (32, 40), (75, 50))
    monkeypatch.setattr(dispatch, "label_map_triton", kernel.label_map_triton, raising=False)
    monkeypatch.setattr(dispatch, "triton_unsupported_reason", lambda *tensors: None)
    labels = dispatch.label_map(logits.to(kernel_device), (32, 40), (75, 50))
    # No two best classes of these 3,750 pixels are as close as float32's error.
    assert torch.equal(labels.cpu(), plain)


def test_operator_keeps_its_schema(kernel: Any, kernel_device: str) -> None:
    arguments = (random_map(3, 4, 5, dtype=torch.float32).to(kernel_device), 16, 20, 9, 7)
    # Interpreted, a kernel needs real numbers.
    checks = ("test_schema", "test_faketensor") if kernel_device == "cuda" else ("test_schema",)
    torch.library.opcheck(kernel.label_map_triton, arguments, test_utils=checks)


def _assert_best(
    labels: Tensor, logits: Tensor, network_size: tuple[int, int], size: tuple[int, int]
) -> None:
    """No class is better than a pixel's label by more than float32's error."""
    wide = F.interpolate(logits[None].double(), size=network_size, mode="bilinear")
    values = F.interpolate(wide, size=size, mode="bilinear")[0]
    taken = values.gather(0, labels[None].long())[0]
    # Two values of which each has the error that the kernel's module states.
    error = 2 * 16 * 2**-24 * logits.abs().max().item()
    assert (values.max(dim=0).values - taken).max() <= error


def _resized_twice(rows: Tensor, middle: int, end: int) -> Tensor:
    for size in (middle, end):
        rows = F.interpolate(rows.t()[None], size=size, mode="linear")[0].t()
    return rows
