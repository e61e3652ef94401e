"""The forms that exported files are compared with compute the same."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from benchmarks.export import FORMS_OF, context_mixing_gathers
from model.zoo import create_model
from support.mixing_problem import mixing_problem


@pytest.mark.parametrize(("height", "width", "kernel_size"), [(14, 14, 13), (7, 7, 7), (9, 30, 7)])
def test_gathers_equal_the_reference(height: int, width: int, kernel_size: int) -> None:
    problem = mixing_problem(height, width, kernel_size, batch=2, groups=2)
    # float64: sums of at most 169 products of numbers near 1
    got = context_mixing_gathers(*problem.folded())
    assert_close(got, problem.by_reference(), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS_OF)
def test_every_form_is_the_same_function(form: str) -> None:
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = create_model("demo", weights="demo")(images)
        network = create_model("demo", weights="demo", fused=form not in ("unfolded", "reference"))
        # float32: sums in another order, of logits near 1
        assert_close(FORMS_OF[form](network)(images), expected, rtol=0, atol=1e-5)
