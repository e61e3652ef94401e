from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.answers.classify import best_classes

FEW_DIFFERENT = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@given(FEW_DIFFERENT, st.data())
def test_the_best_come_first_and_equal_ones_by_class_id(
    scores: list[float], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(scores) + 2))
    expected = sorted(range(len(scores)), key=lambda class_id: (-scores[class_id], class_id))
    assert best_classes(np.array(scores, np.float32), count).tolist() == expected[:count]
