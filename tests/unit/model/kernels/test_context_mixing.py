"""The tiled operation gives what the reference gives, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from model.kernels.context_mixing import position_bias_windows, segments
from model.kernels.context_mixing_reference import window_starts
from support.mixing_problem import mixing_problem

KERNEL_SIZES = (5, 7, 13)
LARGEST_SIZE = 60
MAPS = [
    # height, width, large kernel
    (13, 13, 13),
    (14, 14, 13),
    (13, 40, 13),
    (27, 15, 13),
    (15, 27, 13),
    (50, 84, 13),
    (7, 7, 7),
    (8, 7, 7),
    (9, 30, 7),
    (31, 16, 7),
    (5, 11, 5),
]
MEMORY_FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("height", "width", "kernel_size"), MAPS)
def test_tiles_equal_the_reference(
    height: int, width: int, kernel_size: int, batch: int, memory_format: torch.memory_format
) -> None:
    problem = mixing_problem(
        height, width, kernel_size, batch=batch, groups=1, memory_format=memory_format
    )
    # float64: sums of at most 169 products of numbers near 1
    assert_close(problem.by_tiles(), problem.by_reference(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "channels_per_group", "query_width"),
    [(8, 16, 16), (12, 14, 14), (3, 1, 5), (16, 10, 20)],
)
def test_any_head_width_is_mixed(groups: int, channels_per_group: int, query_width: int) -> None:
    problem = mixing_problem(
        9, 8, 7, groups=groups, channels_per_group=channels_per_group, query_width=query_width
    )
    # float64: longer queries make larger logits
    assert_close(problem.by_tiles(), problem.by_reference(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
def test_float32_equals_the_reference(memory_format: torch.memory_format) -> None:
    problem = mixing_problem(17, 30, 13, batch=2, dtype=torch.float32, memory_format=memory_format)
    # float32: a logit near 10 is known to 1e-6, and so is its weight's ratio
    assert_close(problem.by_tiles(), problem.by_reference(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
def test_result_keeps_the_memory_format(memory_format: torch.memory_format) -> None:
    problem = mixing_problem(14, 20, 13, batch=2, memory_format=memory_format)
    assert problem.by_tiles().is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(("height", "width"), [(12, 40), (40, 12), (1, 1)])
def test_map_smaller_than_the_kernel_is_refused(height: int, width: int) -> None:
    problem = mixing_problem(height, width, 13)
    with pytest.raises(ValueError, match=f"A {height}x{width} map is smaller than the 13-pixel"):
        problem.by_tiles()


@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_segments_cover_every_row_once_in_order(kernel_size: int) -> None:
    for size in range(kernel_size, LARGEST_SIZE + 1):
        rows = [
            row
            for segment in segments(size, kernel_size)
            for row in range(segment.start, segment.start + segment.size)
        ]
        assert rows == list(range(size))


@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_segments_windows_are_the_references(kernel_size: int) -> None:
    for size in range(kernel_size, LARGEST_SIZE + 1):
        starts = [
            segment.window_start + segment.step * offset
            for segment in segments(size, kernel_size)
            for offset in range(segment.size)
        ]
        assert starts == window_starts(size, kernel_size, torch.device("cpu")).tolist()


@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_segments_bias_is_that_of_the_rows_place_in_its_window(kernel_size: int) -> None:
    for size in range(kernel_size, LARGEST_SIZE + 1):
        for segment in segments(size, kernel_size):
            for offset in range(segment.size):
                window_start = segment.window_start + segment.step * offset
                place = segment.start + offset - window_start
                assert place == segment.bias_start + (0 if segment.step else offset)


@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_segments_windows_stay_inside_the_map(kernel_size: int) -> None:
    for size in range(kernel_size, LARGEST_SIZE + 1):
        for segment in segments(size, kernel_size):
            assert segment.window_start >= 0
            assert segment.window_start + segment.union_size(kernel_size) <= size


def test_map_of_the_kernels_size_is_one_segment() -> None:
    assert len(segments(7, 7)) == 1


def test_bias_windows_hold_the_bias_of_every_tap() -> None:
    kernel_size = 5
    position_bias = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0))
    mix_bias = torch.arange(25.0)
    windows = position_bias_windows(position_bias, mix_bias)
    for row in range(kernel_size):
        for column in range(kernel_size):
            for tap_row in range(kernel_size):
                for tap_column in range(kernel_size):
                    tap = tap_row * kernel_size + tap_column
                    want = position_bias[:, tap_row - row + 4, tap_column - column + 4]
                    assert_close(windows[:, row, column, tap], want + mix_bias[tap])


class LargestAllocation(TorchDispatchMode):
    """Remember the largest storage that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest_bytes = max(self.largest_bytes, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
def test_large_map_never_becomes_a_weight_tensor(memory_format: torch.memory_format) -> None:
    height, width, groups, kernel_size = 100, 168, 2, 13
    problem = mixing_problem(
        height,
        width,
        kernel_size,
        groups=groups,
        channels_per_group=2,
        dtype=torch.float32,
        memory_format=memory_format,
    )
    with LargestAllocation() as allocation:
        problem.by_tiles()
    every_weight_bytes = groups * height * width * kernel_size**2 * 4
    # The largest is the result itself, whose channels are far fewer than the taps.
    assert allocation.largest_bytes <= problem.values.numel() * 4
    assert allocation.largest_bytes < every_weight_bytes / 40
