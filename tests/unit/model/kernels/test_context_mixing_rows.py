"""The operation in portable operators gives what the reference gives."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from model.kernels.context_mixing_rows import context_mixing_rows
from support.mixing_problem import mixing_problem


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "kernel_size"),
    [  # windows that coincide, that move by one, by none on one of the axes
        (13, 13, 13),
        (14, 14, 13),
        (13, 40, 13),
        (40, 13, 13),
        (15, 27, 13),
        (32, 44, 13),
        (7, 7, 7),
        (8, 7, 7),
        (9, 30, 7),
        (5, 11, 5),
        (6, 8, 5),
    ],
)
def test_rows_equal_the_reference(height: int, width: int, kernel_size: int, batch: int) -> None:
    problem = mixing_problem(height, width, kernel_size, batch=batch, groups=2)
    # float64: sums of at most 169 products of numbers near 1
    got = context_mixing_rows(*problem.folded())
    assert_close(got, problem.by_reference(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "channels_per_group", "query_width"),
    [(8, 16, 16), (12, 14, 14), (3, 1, 5), (16, 10, 20)],
)
def test_any_head_width_is_mixed(groups: int, channels_per_group: int, query_width: int) -> None:
    problem = mixing_problem(
        9, 8, 7, groups=groups, channels_per_group=channels_per_group, query_width=query_width
    )
    # float64: longer queries make larger logits
    got = context_mixing_rows(*problem.folded())
    assert_close(got, problem.by_reference(), rtol=0, atol=1e-11)


def test_float32_equals_the_reference() -> None:
    problem = mixing_problem(17, 30, 13, batch=2, groups=1, dtype=torch.float32)
    # float32: a logit near 10 is known to 1e-6, and so is its weight's ratio
    got = context_mixing_rows(*problem.folded())
    assert_close(got, problem.by_reference(), rtol=0, atol=1e-5)
