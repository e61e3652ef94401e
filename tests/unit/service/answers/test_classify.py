from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.answers.classify import best_classes, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW_DIFFERENT = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@given(FEW_DIFFERENT, st.data())
def test_the_best_come_first_and_equal_ones_by_class_id(
    scores: list[float], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(scores) + 2))
    expected = sorted(range(len(scores)), key=lambda class_id: (-scores[class_id], class_id))
    assert best_classes(np.array(scores, np.float32), count).tolist() == expected[:count]


LOGITS = arrays.arrays(
    np.float32,
    st.integers(1, 20),
    elements=st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False),
)


@given(LOGITS)
def test_softmax_scores_are_shares(logits: NDArray[np.float32]) -> None:
    scores = scores_of(logits, "softmax")
    exact = np.exp(logits.astype(np.float64) - logits.max())
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, exact / exact.sum(), rtol=1e-5, atol=1e-30)


@given(LOGITS)
def test_a_sigmoid_score_is_of_its_class_alone(logits: NDArray[np.float32]) -> None:
    scores = scores_of(logits, "sigmoid")
    with np.errstate(over="ignore"):
        exact = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, exact, rtol=1e-5, atol=1e-30)
    assert np.array_equal(scores[:1], scores_of(logits[:1], "sigmoid"))
