from __future__ import annotations

import numpy as np
import pytest

from service.answers.embed import unit_vector


@pytest.mark.parametrize("scale", [1e-30, 1.0, 3e19])
def test_a_vector_is_scaled_to_the_length_1(scale: float) -> None:
    vector = np.array([3, -4, 0], np.float32) * np.float32(scale)
    np.testing.assert_allclose(unit_vector(vector), [0.6, -0.8, 0], rtol=1e-6)
    assert unit_vector(vector).dtype == np.float32


def test_the_zero_vector_has_no_direction() -> None:
    zero = np.zeros(3, np.float32)
    np.testing.assert_array_equal(unit_vector(zero), zero)
