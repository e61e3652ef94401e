from __future__ import annotations

import pytest

from service.ewma import Ewma


def test_the_first_observation_is_the_mean() -> None:
    average = Ewma(0.9)
    assert average.means == []
    average.observe(3.0, 5.0)
    assert average.means == [3.0, 5.0]


def test_weights_shrink_by_the_memory() -> None:
    average = Ewma(0.5)
    for value in (1.0, 2.0, 4.0):
        average.observe(value)
    assert average.means == [pytest.approx((0.25 * 1 + 0.5 * 2 + 4) / 1.75)]


def test_a_start_counts_as_an_endless_past() -> None:
    average = Ewma(0.9, [1.0])
    average.observe(2.0)
    assert average.means == [pytest.approx(0.9 * 1 + 0.1 * 2)]


def test_with_a_memory_of_one_nothing_fades() -> None:
    average = Ewma(1.0)
    for value in range(1000):
        average.observe(float(value))
    assert average.means == [pytest.approx(499.5)]


def test_an_observation_has_a_value_for_every_quantity() -> None:
    average = Ewma(0.9)
    average.observe(1.0, 2.0)
    with pytest.raises(ValueError, match="shorter"):
        average.observe(1.0)
