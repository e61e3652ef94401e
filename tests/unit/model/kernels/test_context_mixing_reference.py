"""The specification itself, against its definition pixel by pixel and tap by tap."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model.kernels.context_mixing_reference import kernel_size_of, window_starts
from support.mixing_problem import SMALL_KERNEL, MixingProblem, mixing_problem


@pytest.mark.parametrize(("height", "width"), [(7, 8), (9, 7)])
def test_reference_follows_the_definition(height: int, width: int) -> None:
    problem = mixing_problem(height, width, kernel_size=7, channels_per_group=2, query_width=2)
    want = _by_definition(problem)[None]
    assert_close(problem.by_reference(), want, rtol=0, atol=1e-12)  # float64, sums of 49 terms
    assert_close(problem.by_tiles(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [7, 8, 14, 21])
def test_window_holds_its_pixel_and_stays_inside(size: int) -> None:
    starts = window_starts(size, 7, torch.device("cpu"))
    positions = torch.arange(size)
    assert starts.min() == 0
    assert starts.max() == size - 7
    assert ((starts <= positions) & (positions < starts + 7)).all()


def test_kernel_size_follows_from_the_position_bias() -> None:
    assert kernel_size_of(torch.zeros(4, 25, 25)) == 13


def _by_definition(problem: MixingProblem) -> Tensor:
    """Compute the only image of ``problem`` with loops, in plain numbers."""
    values, queries, keys = problem.values[0], problem.queries[0], problem.keys[0].flatten(1)
    groups = problem.small_position_bias.shape[0]
    query_width, group_width = queries.shape[0] // groups, values.shape[0] // 2 // groups
    result = torch.zeros_like(values)
    parts = (
        (0, problem.small_position_bias, slice(0, SMALL_KERNEL**2)),
        (values.shape[0] // 2, problem.large_position_bias, slice(SMALL_KERNEL**2, None)),
    )
    for first_channel, position_bias, taps in parts:
        for group in range(groups):
            of_group = slice(group * query_width, (group + 1) * query_width)
            first = first_channel + group * group_width
            result[first : first + group_width] = _one_group(
                values[first : first + group_width],
                queries[of_group],
                keys[of_group],
                problem.mix_weight[taps],
                problem.mix_bias[taps],
                position_bias[group],
            )
    return result


def _one_group(
    values: Tensor,
    queries: Tensor,
    keys: Tensor,
    mix_weight: Tensor,
    mix_bias: Tensor,
    position_bias: Tensor,
) -> Tensor:
    channels, height, width = values.shape
    kernel_size = kernel_size_of(position_bias)
    result = torch.zeros_like(values)
    for row in range(height):
        for column in range(width):
            start_row = min(max(row - kernel_size // 2, 0), height - kernel_size)
            start_column = min(max(column - kernel_size // 2, 0), width - kernel_size)
            affinity = [float(queries[:, row, column] @ key) for key in keys.T]
            exponentials = {}
            for tap_row in range(kernel_size):
                for tap_column in range(kernel_size):
                    tap = tap_row * kernel_size + tap_column
                    logit = float(mix_weight[tap] @ torch.tensor(affinity, dtype=torch.float64))
                    logit += float(mix_bias[tap])
                    logit += float(
                        position_bias[
                            start_row + tap_row - row + kernel_size - 1,
                            start_column + tap_column - column + kernel_size - 1,
                        ]
                    )
                    exponentials[tap_row, tap_column] = math.exp(logit)
            total = sum(exponentials.values())
            for channel in range(channels):
                result[channel, row, column] = sum(
                    exponential
                    / total
                    * float(values[channel, start_row + tap_row, start_column + tap_column])
                    for (tap_row, tap_column), exponential in exponentials.items()
                )
    return result
